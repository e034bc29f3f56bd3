# `import nixpkgs { system; overlays; config; }` with the few packages that the flake names.
{
  system,
  overlays ? [ ],
  config ? { },
}:
let
  # A derivation that is evaluated in full and never built.
  stub =
    name: args:
    derivation (
      builtins.removeAttrs args [
        "meta"
        "passthru"
      ]
      // {
        inherit name system;
        builder = "/bin/sh";
      }
    )
    // {
      meta = args.meta or { };
    };
  plain = names: builtins.listToAttrs (map (name: { inherit name; value = stub name { }; }) names);
  unfree = name: if config.allowUnfree or false then stub name { } else throw "${name} is unfree";
  base =
    plain [
      "cacert"
      "cargo-deny"
      "cargo-insta"
      "cargo-nextest"
      "chromium"
      "nodejs"
      "python3"
    ]
    // {
      inherit stub system;
      lib.licenses = {
        asl20.spdxId = "Apache-2.0";
        mit.spdxId = "MIT";
      };
      cudaPackages = builtins.listToAttrs (
        map
          (name: {
            inherit name;
            value = unfree name;
          })
          [
            "cuda_cudart"
            "cuda_nvcc"
            "libcublas"
          ]
      );
      buildNpmPackage =
        {
          pname,
          version,
          src,
          npmDeps,
          npmConfigHook,
          ...
        }@args:
        stub "${pname}-${version}" args;
      # Reads what a sandbox must fetch: each package with its address and its hash.
      importNpmLock = {
        __functor =
          _:
          { npmRoot }:
          let
            lock = builtins.fromJSON (builtins.readFile (npmRoot + "/package-lock.json"));
            packages = builtins.attrValues (builtins.removeAttrs lock.packages [ "" ]);
          in
          stub "npm-deps" { sources = map (package: "${package.resolved} ${package.integrity}") packages; };
        npmConfigHook = stub "npm-config-hook" { };
      };
      dockerTools.buildLayeredImage =
        {
          name,
          tag,
          contents,
          config,
        }:
        stub "${name}.tar.gz" {
          inherit contents tag;
          config = builtins.toJSON config;
        };
    };
  final = builtins.foldl' (pkgs: overlay: pkgs // overlay final pkgs) base overlays;
in
final
