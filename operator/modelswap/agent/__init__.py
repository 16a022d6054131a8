"""The agent of a serving pod: HAProxy before the model server, and the program that controls both."""
