{
  description = "Steadfast, a load balancer for sites whose users need sticky sessions";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      manifest = lib.importTOML ./Cargo.toml;
      forEachSystem =
        make:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});

      # What a build or a test reads, so that nothing else makes either run again.
      source = lib.fileset.toSource {
        root = ./.;
        fileset = lib.fileset.unions [
          ./Cargo.lock
          ./Cargo.toml
          ./admin
          ./affinity
          ./bench
          ./certificates
          ./sandbox
          ./simulation
          ./clippy.toml
          ./control
          ./dataplane
          ./rustfmt.toml
          ./src
          ./steadfast.toml
          ./tests
        ];
      };

      steadfastFor =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = "steadfast";
          inherit (manifest.workspace.package) version;
          src = source;
          cargoLock.lockFile = ./Cargo.lock;
          cargoBuildFlags = [
            "--package"
            "steadfast"
          ];

          # What needs neither a network nor nginx, curl and the like; `tests/run` runs the rest.
          checkType = "debug";
          cargoTestFlags = [
            "--workspace"
            "--exclude"
            "bench"
            # Its seams would be in what is tested here.
            "--exclude"
            "simulation"
            "--lib"
            "--bins"
            "--test"
            "check"
            "--test"
            "golden"
            "--test"
            "tidy"
          ];

          nativeBuildInputs = [ pkgs.installShellFiles ];
          postInstall = lib.optionalString (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) ''
            installShellCompletion --cmd steadfast \
              --bash <($out/bin/steadfast completions bash) \
              --fish <($out/bin/steadfast completions fish) \
              --zsh <($out/bin/steadfast completions zsh)
            $out/bin/steadfast man man
            installManPage man/*.1
          '';

          meta = {
            inherit (manifest.package) description;
            license = lib.licenses.asl20;
            mainProgram = "steadfast";
            platforms = lib.platforms.linux;
          };
        };
    in
    {
      packages = forEachSystem (pkgs: {
        default = steadfastFor pkgs;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (steadfastFor pkgs) ];
          packages = with pkgs; [
            cargo-deny
            clippy
            curl
            openssl
            redis
            etcd
            haproxy
            nginx
            nodejs
            python3
            rust-analyzer
            rustfmt
            wrk
          ];
        };
      });

      nixosModules.default = import ./nix/module.nix self;

      checks = forEachSystem (
        pkgs:
        let
          package = steadfastFor pkgs;
        in
        {
          inherit package;

          clippy = package.overrideAttrs (old: {
            pname = "steadfast-clippy";
            nativeBuildInputs = old.nativeBuildInputs ++ [ pkgs.clippy ];
            buildPhase = "cargo clippy --offline --locked --workspace --all-targets -- -D warnings";
            doCheck = false;
            installPhase = "touch $out";
            dontFixup = true;
          });

          format =
            pkgs.runCommand "steadfast-format"
              {
                nativeBuildInputs = [
                  pkgs.cargo
                  pkgs.rustfmt
                ];
              }
              ''
                export CARGO_HOME=$TMPDIR
                cd ${source}
                cargo fmt --all --check
                touch $out
              '';

          # The unit that the module makes, with the configuration that goes into it checked.
          module =
            let
              system = lib.nixosSystem {
                modules = [
                  self.nixosModules.default
                  {
                    nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
                    system.stateVersion = lib.trivial.release;
                    services.steadfast = {
                      enable = true;
                      settings = {
                        listener = [
                          {
                            name = "web";
                            bind = "0.0.0.0:80";
                            pool = "shop";
                          }
                        ];
                        pool = [
                          {
                            name = "shop";
                            backend = [
                              {
                                name = "cart-1";
                                address = "10.0.0.11:8080";
                              }
                            ];
                          }
                        ];
                      };
                    };
                  }
                ];
              };
            in
            pkgs.runCommand "steadfast-module" { } ''
              cp ${system.config.environment.etc."steadfast/steadfast.toml".source} steadfast.toml
              grep -F 'ExecStart=' ${system.config.systemd.units."steadfast.service".unit}/steadfast.service
              touch $out
            '';
        }
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt);
    };
}
