{
  description = "Stand-in for NixOS/nixpkgs";
  outputs = _: { };
}
