"""Descriptions of classes by a language model: requests, stored answers, and the texts in them."""
