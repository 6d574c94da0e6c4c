"""Layers of images.

- `convolution`: The convolution of images, and the layer that makes vectors of them
- `pooling`: Pooling: each window of an image to one number per channel, the largest or the mean
- `augmentation`: Images made different each time that they are trained on, within the program: shifted, flipped,
  cropped, noisy
"""
