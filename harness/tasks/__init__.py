"""What classification, detection and segmentation each mean by batches, loss and metric."""
