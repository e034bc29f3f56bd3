{
  description = "Stand-in for numtide/flake-utils";
  inputs.systems.url = "path:../systems";
  outputs = _: {
    # { packages = { … }; } of each system becomes { packages.SYSTEM = { … }; }.
    lib.eachSystem =
      systems: outputs:
      let
        of = map (system: {
          inherit system;
          value = outputs system;
        }) systems;
        kinds = builtins.attrNames (builtins.head of).value;
      in
      builtins.listToAttrs (
        map (kind: {
          name = kind;
          value = builtins.listToAttrs (
            map (one: {
              name = one.system;
              value = one.value.${kind};
            }) of
          );
        }) kinds
      );
  };
}
