"""What a trained network says: predict, evaluate, metrics."""
