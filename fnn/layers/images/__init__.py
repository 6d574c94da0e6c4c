"""Layers of images and sequences.

- `weights`: What the convolutions share: their arguments, checked, and their parameters at the start
- `convolution`: The convolution of images, and the layer that makes vectors of them
- `sequences`: The convolution of sequences: that of images one row high
- `transposed`: The convolution that makes images larger: the way back of `conv2d` as a layer
- `pooling`: Pooling: each window of an image to one number per channel, the largest or the mean
- `upsampling`: Images made larger by a whole factor: each number repeated, or lines between neighbours
- `augmentation`: Images made different each time that they are trained on, within the program: shifted, flipped,
  cropped, noisy
"""
