{
  description = "Stand-in for oxalica/rust-overlay";
  inputs.nixpkgs.url = "path:../nixpkgs";
  outputs = _: {
    overlays.default = final: prev: {
      rust-bin.stable."1.95.0".default =
        let
          toolchain =
            {
              targets ? [ ],
              extensions ? [ ],
            }:
            final.stub "rust-default-1.95.0" { inherit targets extensions; };
        in
        toolchain { } // { override = toolchain; };
    };
  };
}
