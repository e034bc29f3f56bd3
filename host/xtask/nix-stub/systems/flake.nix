{
  description = "Stand-in for nix-systems/default";
  outputs = _: { };
}
