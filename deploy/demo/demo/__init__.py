"""The demonstration: two versions of a real model, swapped under load, beside a plain selector flip."""
