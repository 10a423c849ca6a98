"""What attacks leave of a trained model's accuracy: told by attack, by class and group, and by radius."""
