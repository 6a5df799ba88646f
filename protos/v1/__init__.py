"""Generated from the .proto files beside it by ``scripts/gen_protos``; do not edit."""
