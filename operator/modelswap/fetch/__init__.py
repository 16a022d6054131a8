"""The fetch step of a serving pod: brings the artifact and verifies it."""
