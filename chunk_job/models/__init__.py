"""Model folders: described by a manifest, verified, copied, and kept on this machine. No model library is loaded."""
