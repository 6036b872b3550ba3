"""What classification, detection and segmentation each mean."""
