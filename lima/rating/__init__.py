"""What people and models are asked, and what they said: items, instructions, labels."""
