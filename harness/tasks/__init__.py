"""What classification, detection and segmentation each mean by head, loss and metric."""
