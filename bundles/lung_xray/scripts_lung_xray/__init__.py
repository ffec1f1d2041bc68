"""What the lung_xray bundle needs for training and evaluation and MONAI has no part for; inference needs none of it."""
