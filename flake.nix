{
  description = "RWKV-RAG: documents become knowledge bases, questions get answers with citations";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    systems.url = "github:nix-systems/default";
    flake-utils.url = "github:numtide/flake-utils";
    flake-utils.inputs.systems.follows = "systems";
    crane.url = "github:ipetkov/crane";
    rust-overlay.url = "github:oxalica/rust-overlay";
    rust-overlay.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      systems,
      flake-utils,
      crane,
      rust-overlay,
    }:
    let
      inherit (builtins)
        any
        attrNames
        elem
        filter
        fromTOML
        match
        pathExists
        readDir
        readFile
        ;

      workspace = fromTOML (readFile ./Cargo.toml);
      rustVersion = workspace.workspace.package.rust-version;
      version = workspace.workspace.package.version;
      manifest = dir: fromTOML (readFile (dir + "/Cargo.toml"));

      # As `cargo xtask plugins` has it: a component is a crate of plugins/ that is a cdylib.
      plugins = filter (
        name:
        pathExists (./plugins + "/${name}/Cargo.toml")
        && elem "cdylib" ((manifest (./plugins + "/${name}")).lib.crate-type or [ ])
      ) (attrNames (readDir ./plugins));

      # What builds: models and documents may change without compiling anything again.
      source = builtins.path {
        name = "rwkv-rag-source";
        path = ./.;
        filter =
          path: _:
          !(any (pattern: match pattern (baseNameOf path) != null) [
            "target"
            "data"
            "dist"
            "node_modules"
            "models"
            "\\.git"
            "flake\\..*"
            ".*\\.md"
            "LICENSE-.*"
          ]);
      };

      linux = filter (system: match ".*-linux" system != null) (import systems);
    in
    flake-utils.lib.eachSystem linux (
      system:
      let
        pkgs = import nixpkgs {
          inherit system;
          overlays = [ rust-overlay.overlays.default ];
        };
        toolchain = pkgs.rust-bin.stable."${rustVersion}.0".default.override {
          targets = [ "wasm32-wasip2" ];
          extensions = [
            "rust-src"
            "rust-analyzer"
          ];
        };
        crane' = (crane.mkLib pkgs).overrideToolchain toolchain;

        common = {
          pname = "rwkv-rag";
          inherit version;
          src = source;
          strictDeps = true;
          doCheck = false;
        };
        dependencies = crane'.buildDepsOnly (common // { cargoExtraArgs = "--locked --workspace"; });

        components = crane'.mkCargoDerivation (
          common
          // {
            pname = "rwkv-rag-plugins";
            cargoArtifacts = null;
            doInstallCargoArtifacts = false;
            buildPhaseCargoCommand = ''
              RUSTFLAGS="-C target-feature=+simd128" cargo build --locked --profile plugin \
                --target wasm32-wasip2 ${toString (map (name: "-p ${name}") plugins)}
            '';
            installPhaseCommand = ''
              mkdir -p $out
              for name in ${toString plugins}; do
                cp "target/wasm32-wasip2/plugin/''${name//-/_}.wasm" "$out/$name.wasm"
                cp "plugins/$name/plugin.toml" "$out/$name.toml"
              done
            '';
          }
        );

        # The page, which the program embeds from where `cargo xtask ui` would put it.
        page = pkgs.buildNpmPackage {
          pname = "rwkv-rag-page";
          inherit version;
          src = builtins.path {
            name = "rwkv-rag-page-source";
            path = ./host/rag-http/web;
            filter =
              path: _:
              !(elem (baseNameOf path) [
                "dist"
                "node_modules"
              ]);
          };
          npmDeps = pkgs.importNpmLock { npmRoot = ./host/rag-http/web; };
          npmConfigHook = pkgs.importNpmLock.npmConfigHook;
          installPhase = "cp -r dist $out";
        };
        embedPage = "cp -r ${page} host/rag-http/web/dist && chmod -R u+w host/rag-http/web/dist";

        # The program with its components and models where it looks for them: share/rwkv-rag beside bin.
        program =
          extra:
          crane'.buildPackage (
            common
            // {
              cargoArtifacts = dependencies;
              cargoExtraArgs = "--locked -p rag";
              preBuild = embedPage;
              postInstall = ''
                mkdir -p $out/share/rwkv-rag/etc
                ln -s ${components} $out/share/rwkv-rag/plugins
                ln -s ${./models} $out/share/rwkv-rag/models
                cp etc/*.toml $out/share/rwkv-rag/etc/
              '';
              meta = {
                description = "Self-hosted knowledge bases with cited answers, on RWKV models";
                mainProgram = "rwkv-rag";
                license = with pkgs.lib.licenses; [
                  asl20
                  mit
                ];
              };
            }
            // extra
          );
        default = program { };

        # CUDA's compiler and libraries, and the crate's `cuda` feature.
        cudaPackages =
          (import nixpkgs {
            inherit system;
            config.allowUnfree = true;
          }).cudaPackages;
        cuda = program {
          pname = "rwkv-rag-cuda";
          cargoArtifacts = null;
          cargoExtraArgs = "--locked -p rag --features cuda";
          nativeBuildInputs = [ cudaPackages.cuda_nvcc ];
          buildInputs = [
            cudaPackages.cuda_cudart
            cudaPackages.libcublas
          ];
          CUDA_COMPUTE_CAP = "90";
        };

        # Inside a container only the port that is published can be reached, so it listens on all its addresses.
        image = pkgs.dockerTools.buildLayeredImage {
          name = "rwkv-rag";
          tag = version;
          contents = [
            default
            pkgs.cacert
          ];
          config = {
            Entrypoint = [ "/bin/rwkv-rag" ];
            Cmd = [
              "serve"
              "--listen"
              "0.0.0.0:8780"
              "--data-dir"
              "/data"
            ];
            ExposedPorts."8780/tcp" = { };
            Volumes."/data" = { };
          };
        };

        # Tests find components, models and the hostile guests where a checkout has them.
        guests = crane'.mkCargoDerivation {
          pname = "rwkv-rag-guests";
          inherit version;
          src = source;
          cargoArtifacts = null;
          doInstallCargoArtifacts = false;
          cargoVendorDir = crane'.vendorCargoDeps { cargoLock = ./tests/guests/Cargo.lock; };
          buildPhaseCargoCommand = ''
            (cd tests/guests && cargo build --locked --release --target wasm32-wasip2 \
              --target-dir ../../target/guests)
          '';
          installPhaseCommand = ''
            mkdir -p $out/wasm32-wasip2/release
            cp target/guests/wasm32-wasip2/release/*.wasm $out/wasm32-wasip2/release/
          '';
        };
        tests = crane'.cargoNextest (
          common
          // {
            cargoArtifacts = dependencies;
            doCheck = true;
            preCheck = ''
              ${embedPage}
              mkdir -p plugins/dist target
              cp ${components}/* plugins/dist/
              ln -s ${./models} models
              ln -s ${guests} target/guests
            '';
            # The browser suite needs a browser and a Python package; `cargo xtask test` runs it.
            cargoNextestExtraArgs = "--workspace --locked -E 'not binary(=browser)'";
          }
        );
      in
      {
        packages = {
          inherit default image page;
          plugins = components;
        }
        // (if system == "x86_64-linux" then { inherit cuda; } else { });

        apps.default = {
          type = "app";
          program = "${default}/bin/rwkv-rag";
        };

        devShells.default = crane'.devShell {
          packages = [
            pkgs.cargo-deny
            pkgs.cargo-insta
            pkgs.cargo-nextest
            pkgs.chromium
            pkgs.nodejs
            pkgs.python3
          ];
        };

        checks = {
          inherit default tests;
          plugins = components;
          fmt = crane'.cargoFmt { inherit (common) pname version src; };
          clippy = crane'.cargoClippy (
            common
            // {
              cargoArtifacts = dependencies;
              cargoClippyExtraArgs = "--workspace --all-targets -- -D warnings";
            }
          );
        };
      }
    );
}
