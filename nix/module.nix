# The NixOS module: services.steadfast. `flake` is the flake that it comes from.
flake:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.steadfast;
  format = pkgs.formats.toml { };
  global = cfg.settings.global or { };

  # A configuration with a mistake fails the build of the system, and its mistakes are told there.
  configFile = pkgs.runCommand "steadfast.toml" { } ''
    cp ${format.generate "steadfast.toml" cfg.settings} steadfast.toml
    ${lib.getExe cfg.package} check --file-only --config steadfast.toml
    cp steadfast.toml $out
  '';

  # What takes effect at a start alone; all the rest is read again while it runs.
  readAtStart = {
    inherit global;
    admin = cfg.settings.admin or { };
    membership = cfg.settings.membership or { };
  };
in
{
  options.services.steadfast = {
    enable = lib.mkEnableOption "Steadfast, a load balancer for sites whose users need sticky sessions";

    package = lib.mkOption {
      type = lib.types.package;
      default = flake.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalExpression "the package of the flake that this module comes from";
      description = "The package to run.";
    };

    settings = lib.mkOption {
      inherit (format) type;
      default = { };
      example = lib.literalExpression ''
        {
          listener = [ { name = "web"; bind = "0.0.0.0:80"; pool = "shop"; } ];
          pool = [
            {
              name = "shop";
              affinity.cookie.idle_timeout = "30m";
              backend = [
                { name = "cart-1"; address = "10.0.0.11:8080"; }
                { name = "cart-2"; address = "10.0.0.12:8080"; }
              ];
            }
          ];
        }
      '';
      description = ''
        The configuration file, whose keys Steadfast's README lists. It is put where every user of the machine can read it:
        secrets stand in files that it names (`global.keys_file`, `admin.token_file`), which the user `steadfast` must own.
        `global.user`, `global.state_dir` and `global.runtime_dir` are for the unit to say.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = lib.versionAtLeast config.boot.kernelPackages.kernel.version "6.1";
        message = "services.steadfast needs Linux 6.1 or later, for io_uring.";
      }
      {
        assertion = !(global ? user || global ? state_dir || global ? runtime_dir);
        message = "services.steadfast.settings.global: user, state_dir and runtime_dir are the unit's to say.";
      }
    ];

    # Workers move bytes by io_uring and nothing else: 0 lets every process use it.
    boot.kernel.sysctl."kernel.io_uring_disabled" = lib.mkDefault 0;

    users.users.steadfast = {
      isSystemUser = true;
      group = "steadfast";
    };
    users.groups.steadfast = { };

    environment.etc."steadfast/steadfast.toml".source = configFile;
    environment.systemPackages = [ cfg.package ];

    systemd.services.steadfast = {
      description = "Steadfast, a load balancer with sticky sessions";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      restartTriggers = [ (builtins.toJSON readAtStart) ];
      reloadTriggers = [ configFile ];

      serviceConfig = {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} run --config /etc/steadfast/steadfast.toml";
        ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
        User = "steadfast";
        Group = "steadfast";
        StateDirectory = "steadfast";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "steadfast";
        Restart = "on-failure";
        # Wrong arguments, a wrong configuration, no io_uring: starting again would not help.
        RestartPreventExitStatus = "2 64 69";
        # SIGTERM is for the supervisor alone, which tells the others; a second one would cut their drain short.
        KillMode = "mixed";
        # A supervisor that stands still for so long is killed and started again.
        WatchdogSec = lib.mkDefault 30;
        # More than global.drain_timeout and ten seconds.
        TimeoutStopSec = lib.mkDefault 60;
        LimitNOFILE = 1048576;

        AmbientCapabilities = "CAP_NET_BIND_SERVICE";
        CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        # @system-service has io_uring's three calls, in @aio.
        SystemCallFilter = [
          "@system-service"
          # With these the children take away from themselves what is left to them beyond their work.
          "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"
          "~@privileged"
        ];
        SystemCallErrorNumber = "EPERM";
      };
    };
  };
}
