"""The protocol on the wire: messages as typed values, how they become frames, and the envelope in front of them."""
