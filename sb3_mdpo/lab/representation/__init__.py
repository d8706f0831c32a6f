"""What encoders distinguish and what they ignore, in numbers and pictures."""
