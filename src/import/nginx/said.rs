//! What is said of directives that nobody has taken.

use super::{
    settings::SAME,
    tree::{Directive, say, say_of_all},
};
use crate::import::report::{Ledger, Verdict};

const BODIES: &str = "bodies are passed on as they come";
const FIELDS: &str = "no field is rewritten: let the application do it";
const USERS: &str = "users are not checked here: let the application or a firewall do it";
const LOG: &str = "[access_log] tells requests, in fields of its own: see the README";
const CACHE: &str = "nothing is cached here";
const FILES: &str = "no files are served: leave them to a web server";
const CIPHERS: &str = "TLS 1.2 and 1.3 are spoken, and all ciphers that are offered have forward secrecy";
const ELSEWHERE: &str = "nothing that leads to a pool has a use for it";
const PROCESS: &str = "the supervisor and systemd see to it";

/// Directives by name, or by how it begins before a `*`: whether something is missing without them, and why.
const SAID: &[(&[&str], bool, &str)] = &[
    (&["user"], false, "set global.user to a user of Steadfast's own"),
    (
        &[
            "worker_*",
            "pid",
            "daemon",
            "master_process",
            "events",
            "thread_pool",
            "lock_file",
            "pcre_jit",
            "timer_resolution",
            "load_module",
            "env",
            "debug_*",
            "working_directory",
            "ssl_engine",
        ],
        false,
        PROCESS,
    ),
    (
        &["error_log", "log_not_found", "log_subrequest", "rewrite_log"],
        false,
        "logs go to standard error, which journald keeps",
    ),
    (&["access_log", "log_format", "open_log_file_cache"], true, LOG),
    (
        &[
            "types",
            "default_type",
            "types_hash_*",
            "variables_hash_*",
            "server_names_hash_*",
            "map_hash_*",
            "charset",
            "server_tokens",
            "server_name_in_redirect",
            "port_in_redirect",
            "absolute_redirect",
            "sendfile*",
            "tcp_*",
            "aio*",
            "directio*",
            "output_buffers",
            "postpone_output",
            "reset_timedout_connection",
            "lingering_*",
            "msie_*",
            "open_file_cache*",
            "etag",
            "if_modified_since",
            "max_ranges",
            "underscores_in_headers",
            "ignore_invalid_headers",
            "merge_slashes",
            "chunked_transfer_encoding",
            "connection_pool_size",
            "request_pool_size",
            "recursive_error_pages",
            "preread_*",
            "proxy_headers_hash_*",
            "keepalive_*",
            "send_timeout",
            "client_body_buffer_size",
            "client_body_temp_path",
            "client_body_in_*",
            "client_header_buffer_size",
            "large_client_header_buffers",
            "resolver*",
            "http2*",
            "http3*",
            "variables",
            "zone",
            "status_zone",
            "proxy_upload_rate",
            "proxy_download_rate",
            "proxy_half_close",
            "hostnames",
        ],
        false,
        SAME,
    ),
    (
        &["gzip*", "brotli*", "gunzip*", "sub_filter*", "addition_*", "ssi*", "image_filter*", "xslt*", "mirror*"],
        true,
        "bodies are passed on as they are: let the application do it",
    ),
    (
        &[
            "proxy_buffer*",
            "proxy_busy_buffers_size",
            "proxy_max_temp_file_size",
            "proxy_temp_*",
            "proxy_request_buffering",
            "proxy_ignore_client_abort",
            "grpc_buffer_size",
        ],
        false,
        BODIES,
    ),
    (
        &[
            "proxy_http_version",
            "proxy_send_timeout",
            "grpc_send_timeout",
            "proxy_socket_keepalive",
            "proxy_next_upstream_timeout",
            "proxy_force_ranges",
            "proxy_pass_request_*",
            "proxy_pass_header",
            "proxy_timeout",
            "proxy_connect_timeout",
            "proxy_read_timeout",
            "proxy_ssl*",
            "grpc_*",
            "client_max_body_size",
            "client_*_timeout",
        ],
        false,
        ELSEWHERE,
    ),
    (
        &["proxy_intercept_errors", "error_page", "proxy_hide_header", "proxy_ignore_headers"],
        true,
        "responses are passed on as they are",
    ),
    (
        &["proxy_cookie_*", "proxy_redirect", "proxy_method", "proxy_set_body", "proxy_bind"],
        true,
        "requests and responses are passed on as they are: let the application write its own names",
    ),
    (&["proxy_cache*", "proxy_no_cache", "proxy_store*", "fastcgi_cache*", "expires", "slice"], true, CACHE),
    (
        &["add_header", "add_trailer", "more_*"],
        true,
        "fields of responses are not rewritten: let the application do it",
    ),
    (
        &["rewrite", "set", "break", "if", "return", "internal", "js_*", "perl*", "lua_*", "*_by_lua_block"],
        true,
        "paths are passed on as they are, and there are no rules of one's own",
    ),
    (
        &["allow", "deny", "satisfy", "auth_*", "limit_except", "valid_referers", "secure_link*", "geo", "geoip*"],
        true,
        USERS,
    ),
    (&["limit_*"], true, "nothing is counted per client: limits.requests bounds what a backend bears"),
    (
        &[
            "root",
            "index",
            "alias",
            "try_files",
            "autoindex*",
            "fastcgi_*",
            "uwsgi_*",
            "scgi_*",
            "memcached_*",
            "dav_*",
        ],
        true,
        FILES,
    ),
    (
        &[
            "ssl_ciphers",
            "ssl_prefer_server_ciphers",
            "ssl_ecdh_curve",
            "ssl_dhparam",
            "ssl_session_*",
            "ssl_buffer_size",
            "ssl_conf_command",
            "ssl_early_data",
            "ssl_verify_depth",
            "ssl_protocols",
            "ssl_handshake_timeout",
            "ssl",
        ],
        false,
        CIPHERS,
    ),
    (&["ssl_stapling*", "ssl_trusted_certificate"], true, "name a response in `ocsp` of the certificate"),
    (&["ssl_crl", "ssl_ocsp*"], true, "revocation lists are not read"),
    (
        &[
            "ssl_certificate",
            "ssl_certificate_key",
            "ssl_password_file",
            "ssl_client_certificate",
            "ssl_verify_client",
            "ssl_reject_handshake",
            "ssl_preread",
        ],
        true,
        "no listener with TLS was made that shows it",
    ),
    (&["real_ip_*", "set_real_ip_from"], true, "name the proxies in front in listener.trusted_proxies"),
    (&["map", "split_clients", "upstream"], true, "nothing that is taken uses it"),
    (&["health_check"], true, "write it into [pool.health]: check = \"http\", path, interval, rise and fall"),
    (&["mail"], true, "mail is plain TCP here: listeners with protocol = \"tcp\""),
    (&["proxy_protocol"], false, ELSEWHERE),
    (
        &["access_by_lua*", "content_by_lua*", "rewrite_by_lua*", "init_by_lua*", "header_filter_by_lua*"],
        true,
        "nothing of one's own runs in Steadfast",
    ),
];

/// Says of all that is left in these what nobody has said.
pub(super) fn leftovers(ledger: &mut Ledger, directives: &[Directive]) {
    for directive in directives {
        if directive.is_said() {
            leftovers(ledger, &directive.block);
            continue;
        }
        let verdict = match directive.name() {
            "proxy_set_header" | "grpc_set_header" => field(directive),
            "access_log" if directive.word(1) == "off" => {
                Verdict::not_needed("there is one only where [access_log] asks for it")
            }
            "proxy_redirect" if matches!(directive.word(1), "off" | "default") => {
                Verdict::not_needed("responses are passed on as they are")
            }
            "map" if directive.word(1) == "$http_upgrade" => {
                Verdict::not_needed("pool.upgrades lets WebSockets through")
            }
            name => known(name),
        };
        match directive.is_block {
            true => say_of_all(ledger, directive, &verdict),
            false => say(ledger, directive, verdict),
        }
    }
}

fn known(name: &str) -> Verdict {
    let fits = |known: &&str| known.strip_suffix('*').map_or(*known == name, |start| name.starts_with(start));
    match SAID.iter().find(|(names, ..)| names.iter().any(fits)) {
        Some((_, true, why)) => Verdict::not_taken(*why),
        Some((_, false, why)) => Verdict::not_needed(*why),
        None => Verdict::not_taken("nothing is known of it here"),
    }
}

/// Fields that backends are told, many of which Steadfast tells by itself.
fn field(directive: &Directive) -> Verdict {
    let (name, value) = (directive.word(1).to_ascii_lowercase(), directive.word(2));
    match (name.as_str(), value) {
        ("host", "$host" | "$http_host" | "$host:$server_port" | "$host:$proxy_port") => {
            Verdict::not_needed("backends are told the client's `Host`")
        }
        ("x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host", _) if value.starts_with('$') => {
            Verdict::not_needed("listener.forwarding tells it")
        }
        ("upgrade" | "connection", _) => Verdict::not_needed("pool.upgrades lets WebSockets through"),
        ("x-real-ip", _) => Verdict::not_taken("backends are told the client's address in X-Forwarded-For"),
        ("host", _) => Verdict::not_taken("backends are told the client's `Host`"),
        _ => Verdict::not_taken(FIELDS),
    }
}
