"""What encoders have learnt to tell apart and what to overlook: as numbers and as pictures."""
