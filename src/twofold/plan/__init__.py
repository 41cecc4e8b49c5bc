"""Definitions compiled, the plain reference, and the Lambda merge; pure, no input or output."""
