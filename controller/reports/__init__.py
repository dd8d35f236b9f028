"""What people see of a run: one view of it, and the same as one HTML file."""
