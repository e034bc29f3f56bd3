{
  description = "Stand-in for ipetkov/crane";
  outputs = _: {
    mkLib = pkgs: {
      overrideToolchain =
        toolchain:
        let
          make =
            suffix:
            {
              pname,
              version,
              src,
              ...
            }@args:
            pkgs.stub "${pname}${suffix}-${version}" (args // { inherit toolchain; });
        in
        {
          buildDepsOnly = make "-deps";
          buildPackage = make "";
          cargoClippy = { cargoArtifacts, ... }@args: make "-clippy" args;
          cargoFmt = make "-fmt";
          cargoNextest = { cargoArtifacts, ... }@args: make "-nextest" args;
          mkCargoDerivation =
            {
              cargoArtifacts,
              buildPhaseCargoCommand,
              ...
            }@args:
            make "" args;
          vendorCargoDeps = { cargoLock }: pkgs.stub "vendor-cargo-deps" { inherit cargoLock; };
          devShell = { packages }: pkgs.stub "nix-shell" { inherit packages toolchain; };
        };
    };
  };
}
