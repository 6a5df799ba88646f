"""Networks made smaller and faster: channels cut, trained again, quantized in several ways, and the best of it picked."""
