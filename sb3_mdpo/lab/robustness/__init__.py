"""How much action distributions change when pictures change and states do not."""
