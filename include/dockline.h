/* SPDX-License-Identifier: MIT
 *
 * dockline: the core of a proxy for the Docker Engine API, for C and C++.
 * Generated from src/ffi by `make header`; do not edit.
 *
 * A proxy for Docker's API speaks HTTP/1.1 until attach, exec, /session or /grpc turn the connection
 * into a raw stream in both directions, with half-close, back-pressure and an end of its own on each
 * side. There are three interfaces; use the highest that the host allows:
 *
 *     dockline_engine    the library owns sockets and loop: listeners, upstreams, HTTP, tunnels
 *     dockline_conn      the host owns sockets and clock; the library does the HTTP of one client
 *                        connection
 *     dockline_relay     the host does HTTP as well; dockline_request_plan_make() and
 *                        dockline_hijack_decide() say when a tunnel begins, and a relay joins the
 *                        two connections until both directions have ended
 *
 * Relay and connection start no thread, open nothing except pipes, install no signal handler and
 * keep no global state. An engine starts threads only to look up host names of upstreams.
 *
 * An engine in short:
 *
 * ```c
 * dockline_status serve(int listening_socket)    // after fork
 * {
 *     dockline_upstream_options docker = DOCKLINE_INIT;
 *     dockline_listener_options web = DOCKLINE_INIT;
 *     dockline_upstream *upstream = NULL;
 *     dockline_engine *engine = NULL;
 *     dockline_status status;
 *
 *     docker.address = DOCKLINE_STR("unix:///var/run/docker.sock");
 *     docker.host = DOCKLINE_STR("docker");
 *     status = dockline_upstream_new(&docker, sizeof docker, &upstream);
 *     if (status == DOCKLINE_OK)
 *         status = dockline_engine_new(NULL, 0, &engine);
 *     web.upstream = upstream;                   // or web.route, to decide for each request
 *     if (status == DOCKLINE_OK)
 *         status = dockline_engine_adopt_listener(engine, listening_socket, &web, sizeof web, NULL);
 *     if (status == DOCKLINE_OK)
 *         status = dockline_engine_run(engine);  // until dockline_engine_stop(), from any thread
 *     if (status == DOCKLINE_E_SYSTEM)
 *         perror("dockline");
 *     dockline_engine_free(engine);
 *     dockline_upstream_free(upstream);
 *     return status;
 * }
 * ```
 *
 * A connection in short; after every call that takes a time:
 *
 * ```c
 * while (dockline_conn_next_event(conn, &event, sizeof event) == DOCKLINE_OK
 *        && event.kind != DOCKLINE_EVENT_NONE)
 *     handle(&event);                            // connect, keep or close, as the event says
 * dockline_conn_wants(conn, &interest, &deadline_ms);
 * // *_WRITE: dockline_conn_output_view, send, dockline_conn_output_sent
 * // *_READ: recv, dockline_conn_feed
 * // after DOCKLINE_EVENT_TUNNEL: dockline_conn_tunnel_take, then a relay
 * ```
 *
 * A relay in short; client_fd and daemon_fd are non-blocking stream sockets, and worker is from
 * dockline_worker_new(), once for each thread, after fork:
 *
 * ```c
 * dockline_endpoint client = DOCKLINE_INIT, daemon = DOCKLINE_INIT;
 * dockline_relay_wants wants = DOCKLINE_INIT;
 * dockline_relay *relay = NULL;
 * uint32_t ready = 0;
 *
 * client.fd = client_fd;
 * daemon.fd = daemon_fd;
 * dockline_relay_new(worker, NULL, 0, &client, &daemon, sizeof client, now_ms(), &relay);
 * dockline_relay_prefill(relay, DOCKLINE_SIDE_DOWNSTREAM, early, early_len);  // already read
 * while (dockline_relay_pump(relay, ready, now_ms(), &wants, sizeof wants) == DOCKLINE_OK
 *        && wants.state != DOCKLINE_RELAY_DONE)
 *     ready = wants.state == DOCKLINE_RELAY_YIELD ? 0 : wait_for(wants.interest, wants.deadline_ms);
 * dockline_relay_free(relay);                    // then close both sockets
 * ```
 *
 * examples/engine_server.c, conn_proxy.c and relay_server.c are complete programs.
 *
 * Threads. A handle is used by one thread at a time, and so are all relays of one worker. A second
 * call at the same time returns DOCKLINE_E_BUSY. Pure functions and upstreams may be used by any
 * thread at any time, and so may most functions of an engine: their comments say so.
 *
 * Ownership. _new makes, _free frees and accepts NULL. _view borrows. _adopt transfers descriptors to
 * the library, on success only. All other memory and descriptors that the host passes are borrowed:
 * for the call, or, where the text says so, until the relay is freed. Results are written on success
 * only.
 *
 * Structs are passed with their size: pass sizeof. All zero is the default everywhere. A program that
 * was built against an older header continues to work; one that was built against a newer header may
 * use what this library knows, and receives DOCKLINE_E_SIZE if it sets more.
 *
 * Numbers. A field or argument with one of several values is an int32_t, and an enum lists the
 * values; switch ((enum dockline_decision)decision) lets the compiler warn of a missing case. Flags
 * are bits of a uint32_t. A truth value is an int32_t that is 0 or 1.
 *
 * Errors. 0 is success, a negative number is one of enum dockline_status_code. With
 * DOCKLINE_E_SYSTEM, errno is that of the system call that failed; no other call of the library sets
 * it to a defined value. A connection that fails is not an error of a call: it is an event, a close
 * reason or the end in a record. Panics do not cross: the call returns DOCKLINE_E_PANIC, and the
 * handle can only be freed.
 *
 * Fork. Make workers and engines after fork(2); a child does not use those of its parent.
 *
 * Time is uint64_t milliseconds on a monotonic clock of the host; only differences count.
 */

#ifndef DOCKLINE_H
#define DOCKLINE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ----
 *
 * Which library is loaded. Check it once, at start-up.
 */

/**
 * The ABI that this header describes. Compare it with dockline_abi_version() at start-up: a
 * library with another number must not be used.
 */
#define DOCKLINE_ABI_VERSION 1u

/**
 * Returns the ABI of the library that is loaded.
 *
 * @return compare with DOCKLINE_ABI_VERSION
 * @since 0.1
 */
uint32_t dockline_abi_version(void);

/**
 * Returns the name and version of the library that is loaded.
 *
 * @return a static string, such as "dockline 0.1.0"
 * @since 0.1
 */
const char *dockline_version_string(void);

/* ---- Status ----
 *
 * What calls return.
 */

/** The values of a dockline_status. */
enum dockline_status_code {
    /** Success. */
    DOCKLINE_OK = 0,
    /** A pointer that must not be NULL is NULL. */
    DOCKLINE_E_NULL = -100,
    /**
     * A struct is smaller than its first version, or larger than this library knows and not zero
     * there.
     */
    DOCKLINE_E_SIZE = -101,
    /** An argument or a field has an invalid value. */
    DOCKLINE_E_VALUE = -102,
    /** The call is not allowed in this state. */
    DOCKLINE_E_STATE = -103,
    /** The handle, or its worker, is in use: by the caller of a callback or by another thread. */
    DOCKLINE_E_BUSY = -104,
    /** The pointer is not a handle of this type. */
    DOCKLINE_E_HANDLE = -105,
    /** The descriptor is in blocking mode; set O_NONBLOCK first. */
    DOCKLINE_E_BLOCKING = -106,
    /** The descriptor is not a stream socket. */
    DOCKLINE_E_NOT_STREAM = -107,
    /** The socket does not listen. */
    DOCKLINE_E_NOT_LISTENING = -108,
    /** More than the library accepts. */
    DOCKLINE_E_LIMIT = -300,
    /** A system call failed; errno says why. */
    DOCKLINE_E_SYSTEM = -400,
    /** The library failed inside this call, which is a bug. The handle is poisoned; free it. */
    DOCKLINE_E_PANIC = -900,
    /** An earlier call on this handle returned DOCKLINE_E_PANIC; it can only be freed. */
    DOCKLINE_E_POISONED = -901,
};

/**
 * What a call returns: 0, or a negative number that says what went wrong. "Would block" is never a
 * status.
 *
 * -1xx: the call was wrong, and nothing changed. -3xx: a limit. -4xx: the system. -9xx: a bug in
 * dockline.
 */
typedef int32_t dockline_status;

/**
 * Returns the identifier of a status, for logs.
 *
 * @return a static string, such as "DOCKLINE_E_NULL"; "DOCKLINE_E_UNKNOWN" for a number without a
 *         name
 * @since 0.1
 */
const char *dockline_status_name(dockline_status status);

/**
 * Returns what a status means, in English, without a final full stop.
 *
 * @return a static string
 * @since 0.1
 */
const char *dockline_status_text(dockline_status status);

/* ---- Text, sides, zero ----
 *
 * What all interfaces share. Text is passed by pointer and length; bytes that are not text, such as
 * bodies and relayed data, are a void or uint8_t pointer and a length.
 */

/**
 * Text by pointer and length, without a NUL at its end. It is borrowed: who passes it keeps it
 * alive and unchanged for the call, and what the library returns lives as long as the function
 * says. This struct never grows.
 */
typedef struct dockline_str {
    /** Its first byte. NULL, with len 0: absent, which is the default and not the same as empty. */
    const char *data;
    /** Its length in bytes. */
    size_t len;
} dockline_str;

/** The two sides of a proxied connection, and the proxy between them. */
enum dockline_side {
    /** Neither. */
    DOCKLINE_SIDE_NONE = 0,
    /** The client's side. */
    DOCKLINE_SIDE_DOWNSTREAM = 1,
    /** The daemon's side. */
    DOCKLINE_SIDE_UPSTREAM = 2,
    /**
     * The proxy itself: a limit, its configuration, or its operator. Only in a dockline_failure.
     */
    DOCKLINE_SIDE_PROXY = 3,
};

/** Initializes a struct to all zero: dockline_endpoint client = DOCKLINE_INIT; */
#ifdef __cplusplus
#define DOCKLINE_INIT {}
#else
#define DOCKLINE_INIT {0}
#endif

/** A dockline_str of a string literal. */
#ifdef __cplusplus
#define DOCKLINE_STR(literal) (dockline_str{"" literal, sizeof(literal) - 1})
#else
#define DOCKLINE_STR(literal) ((dockline_str){"" literal, sizeof(literal) - 1})
#endif

/**
 * Returns a dockline_str of a C string, which is borrowed; absent for NULL.
 *
 * @since 0.1
 */
static inline dockline_str dockline_str_of(const char *text)
{
    dockline_str str;
    str.data = text;
    str.len = text == NULL ? 0 : strlen(text);
    return str;
}

/* ---- Hijack ----
 *
 * When does HTTP end and a tunnel begin? Two pure functions for hosts that do HTTP themselves: one
 * decides how a request is sent on, the other what the response head means.
 */

/** Versions of HTTP. */
enum dockline_http_version {
    /** HTTP/1.0 */
    DOCKLINE_HTTP_10 = 10,
    /** HTTP/1.1 */
    DOCKLINE_HTTP_11 = 11,
    /** HTTP/2 */
    DOCKLINE_HTTP_20 = 20,
    /** HTTP/3 */
    DOCKLINE_HTTP_30 = 30,
};

/** Request flag: the host offers CONNECT. Without it CONNECT is refused. */
#define DOCKLINE_ALLOW_CONNECT 0x01u

/** What a request is to the proxy. */
enum dockline_request_kind {
    /** One request and one response; not an operation of the Docker Engine API. */
    DOCKLINE_REQUEST_ORDINARY = 0,
    /**
     * An operation of the Docker Engine API that follows something or transfers much: logs, events,
     * wait, build, load, save, pull, push, cp and the like. Either side may pause for as long as it
     * wants, the client within its request only if body_may_pause is set: no other time limit applies
     * to its bytes or to the daemon's.
     */
    DOCKLINE_REQUEST_STREAM = 1,
    /**
     * It may become a tunnel: what the client sends behind it is held until the response head decides,
     * and the upstream connection is never used for another request.
     */
    DOCKLINE_REQUEST_SWITCH = 2,
    /**
     * Any other operation of the Docker Engine API: the daemon responds when it is done, on a busy
     * machine after minutes. No time limit applies to the daemon's bytes; the client has to send its
     * request at once.
     */
    DOCKLINE_REQUEST_COMMAND = 3,
};

/** Response flag: there is a Content-Length. */
#define DOCKLINE_RESPONSE_HAS_LENGTH 0x01u

/** Response flag: there is a Transfer-Encoding. */
#define DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING 0x02u

/** What a response head means for the connection. */
enum dockline_decision {
    /** An ordinary final response. Held client bytes must no longer be sent to the upstream. */
    DOCKLINE_DECISION_MESSAGE = 0,
    /** An interim response (1xx): pass it on and wait for the next head. */
    DOCKLINE_DECISION_INTERIM = 1,
    /** A requested 101: from the blank line on, both directions are raw bytes. */
    DOCKLINE_DECISION_TUNNEL_UPGRADE = 2,
    /** Docker's bare 200: as for 101. */
    DOCKLINE_DECISION_TUNNEL_RAW = 3,
    /** 2xx in response to CONNECT: as for 101. */
    DOCKLINE_DECISION_TUNNEL_CONNECT = 4,
    /**
     * A switch that was not requested, or not a response at all: close the upstream connection and
     * reply with 502.
     */
    DOCKLINE_DECISION_REFUSE = 5,
};

/** What the decision needs to know of a request. Text is borrowed for the call. */
typedef struct dockline_request_facts {
    /** The method, as sent. */
    dockline_str method;
    /** The request target, as sent, with or without its query. */
    dockline_str target;
    /**
     * A path below which the daemon is served, such as "/docker"; absent if it is served at the
     * root.
     */
    dockline_str base;
    /** The value of Upgrade, several fields joined by commas; absent if there is none. */
    dockline_str upgrade;
    /** The value of Connection, several fields joined by commas; absent if there is none. */
    dockline_str connection;
    /** What the client speaks: enum dockline_http_version. Required. */
    int32_t version;
    /** DOCKLINE_ALLOW_CONNECT */
    uint32_t flags;
} dockline_request_facts;

/** How to send a request on. */
typedef struct dockline_request_plan {
    /** enum dockline_request_kind */
    int32_t kind;
    /** 1: send the client's Upgrade value and "Connection: Upgrade". 0: send neither. */
    int32_t send_upgrade;
    /** 1: read the declared body whole, then send head and body at once. */
    int32_t whole_body_first;
    /**
     * 0, or the status to refuse the request with: 501 for an operation that takes over the
     * connection but was requested over HTTP/2 or HTTP/3; 405 for CONNECT (close the connection
     * afterwards).
     */
    int32_t refuse_status;
    /**
     * 1: what the client sends behind the request may be input for a tunnel, even if no tunnel can
     * come of it. Unless one does, close the client's connection after the response, or that input
     * could run as the next request.
     */
    int32_t proposes_tunnel;
    /**
     * 1: the client may pause within the body of its request, which carries a build context, an
     * image or an archive. Only with DOCKLINE_REQUEST_STREAM; all other bodies are short and sent
     * at once.
     */
    int32_t body_may_pause;
} dockline_request_plan;

/** What the decision needs to know of a response head. Text is borrowed for the call. */
typedef struct dockline_response_facts {
    /** The value of Content-Type; absent if there is none. */
    dockline_str content_type;
    /** The value of Upgrade; absent if there is none. */
    dockline_str upgrade;
    /** The status code. */
    uint32_t status;
    /** DOCKLINE_RESPONSE_* */
    uint32_t flags;
} dockline_response_facts;

/**
 * Decides how a request is sent on. Pure: any thread, no state.
 *
 * @param facts      the request as the client sent it
 * @param facts_size sizeof(dockline_request_facts)
 * @param out        set on success
 * @param out_size   sizeof(dockline_request_plan)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_request_plan_make(const dockline_request_facts *facts,
                                           size_t facts_size,
                                           dockline_request_plan *out,
                                           size_t out_size);

/**
 * Decides what a response head means for the connection. Pure: any thread, no state.
 *
 * @param request       the request as the client sent it, which was sent on as its plan says
 * @param request_size  sizeof(dockline_request_facts)
 * @param response      the response head as the upstream sent it
 * @param response_size sizeof(dockline_response_facts)
 * @param out_decision  set on success: enum dockline_decision
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_hijack_decide(const dockline_request_facts *request,
                                       size_t request_size,
                                       const dockline_response_facts *response,
                                       size_t response_size,
                                       int32_t *out_decision);

/* ---- Relay ----
 *
 * Two byte streams joined, driven by the host. The relays of one thread share a worker.
 */

/** Levels of log messages. */
enum dockline_log_level {
    /** The operator has to act. */
    DOCKLINE_LOG_ERROR = 1,
    /** It works, but less well. */
    DOCKLINE_LOG_WARN = 2,
    /** Worth knowing. */
    DOCKLINE_LOG_INFO = 3,
};

/**
 * What the relays of one thread share: a scratch buffer, pipes for bulk transfers, the log. Make
 * one for each thread that drives relays, after fork(2).
 */
typedef struct dockline_worker dockline_worker;

/**
 * Receives a log message: enum dockline_log_level and one line of text, borrowed for the call. It
 * must not unwind or longjmp.
 */
typedef void (*dockline_log_callback)(void *user, int32_t level, dockline_str text);

/** Bounds and log of a worker. */
typedef struct dockline_worker_options {
    /** Called from within dockline_relay_pump. NULL: no log. */
    dockline_log_callback log;
    /** The first argument of log. */
    void *log_user;
    /** Pipes in use at a time, two descriptors each. 0: 64. */
    uint32_t max_pipes;
    /** The size to request for each pipe; the kernel may grant less. 0: 1 MiB. */
    uint32_t pipe_bytes;
} dockline_worker_options;

/**
 * Makes a worker. It owns no descriptor until a transfer turns out to be long.
 *
 * Whether the process ignores SIGPIPE is determined now. If it does not, the signal is blocked for
 * the thread while splicing, at the cost of some system calls in each pump.
 *
 * @param options      NULL for the default, and then options_size is 0
 * @param options_size sizeof(dockline_worker_options)
 * @param out          set on success; free it with dockline_worker_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE
 * @since 0.1
 */
dockline_status dockline_worker_new(const dockline_worker_options *options,
                                    size_t options_size,
                                    dockline_worker **out);

/**
 * Frees a worker. Relays made from it stay valid; what they share is freed with the last of them.
 *
 * @param worker may be NULL
 * @since 0.1
 */
void dockline_worker_free(dockline_worker *worker);

/** Results of the callbacks of an endpoint, besides a number of bytes. */
enum dockline_io_result {
    /** Not now. */
    DOCKLINE_IO_AGAIN = -1,
    /** The connection failed; no more I/O on this side. */
    DOCKLINE_IO_RESET = -2,
};

/** Relay flag: never splice. */
#define DOCKLINE_RELAY_NO_SPLICE 0x01u

/** Relay flag: do not set TCP_NODELAY and keepalive (30 s, 6 x 10 s) on TCP sockets. */
#define DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS 0x02u

/** The downstream may be read. */
#define DOCKLINE_DOWNSTREAM_READ 0x01u

/** The downstream may be written. */
#define DOCKLINE_DOWNSTREAM_WRITE 0x02u

/**
 * The poller reported EPOLLRDHUP, EPOLLHUP or EPOLLERR on the downstream: a short read then does
 * not prove that nothing is left. An edge-triggered host that cannot tell passes it with every
 * READ. Never in interest.
 */
#define DOCKLINE_DOWNSTREAM_HUP 0x04u

/** The host knows that the downstream connection is dead. Never in interest. */
#define DOCKLINE_DOWNSTREAM_GONE 0x08u

/** The upstream may be read. */
#define DOCKLINE_UPSTREAM_READ 0x10u

/** The upstream may be written. */
#define DOCKLINE_UPSTREAM_WRITE 0x20u

/** As DOCKLINE_DOWNSTREAM_HUP. */
#define DOCKLINE_UPSTREAM_HUP 0x40u

/** As DOCKLINE_DOWNSTREAM_GONE. */
#define DOCKLINE_UPSTREAM_GONE 0x80u

/** States of a relay. */
enum dockline_relay_state {
    /** Pump upon interest or deadline. */
    DOCKLINE_RELAY_RUNNING = 0,
    /** The budget is spent: pump again soon, after other work. */
    DOCKLINE_RELAY_YIELD = 1,
    /** It has ended: read the stats, free the relay, close both connections. */
    DOCKLINE_RELAY_DONE = 2,
};

/** No deadline; as a duration: without a limit. */
#define DOCKLINE_NO_DEADLINE UINT64_MAX

/** Why a relay or a tunnel ended. */
enum dockline_close_reason {
    /** It has not ended. */
    DOCKLINE_CLOSE_NONE = 0,
    /** Both directions ended by themselves. */
    DOCKLINE_CLOSE_EOF = 1,
    /** The daemon's end was passed on, and the client did not follow within linger_ms. */
    DOCKLINE_CLOSE_LINGER = 2,
    /** No byte moved for idle_ms. */
    DOCKLINE_CLOSE_IDLE = 3,
    /** The client's connection was reset, or its peer stopped acknowledging. */
    DOCKLINE_CLOSE_DOWNSTREAM_RESET = 4,
    /** The daemon's connection was reset, or its peer stopped acknowledging. */
    DOCKLINE_CLOSE_UPSTREAM_RESET = 5,
    /** The time given by dockline_relay_drain, or by dockline_engine_stop, has passed. */
    DOCKLINE_CLOSE_DRAIN = 6,
    /** dockline_relay_kill, or dockline_engine_kill */
    DOCKLINE_CLOSE_KILLED = 7,
};

/** A tunnel: two byte streams joined, driven by the host. */
typedef struct dockline_relay dockline_relay;

/**
 * One side of a relay: a descriptor, or callbacks if only the host can read and write (TLS).
 * Callbacks are called from within dockline_relay_pump; they must not unwind, longjmp or call
 * relays of the same worker.
 */
typedef struct dockline_endpoint {
    /**
     * A connected, non-blocking stream socket, borrowed: the host keeps it open until the relay is
     * freed, and closes it. With callbacks it is used only to see whether the peer is gone and to
     * set SO_LINGER when the stream was cut; -1 if there is none.
     */
    int32_t fd;
    /** The first argument of the callbacks. */
    void *user;
    /**
     * Reads up to len bytes. Returns their number, 0 at the end (FIN, close_notify), or
     * DOCKLINE_IO_*. NULL, like the other two: the library reads, writes and splices fd itself.
     */
    int64_t (*read)(void *user, void *buf, size_t len);
    /** Writes up to len bytes. Returns their number or DOCKLINE_IO_*. */
    int64_t (*write)(void *user, const void *buf, size_t len);
    /**
     * Half-closes. Returns 0 or DOCKLINE_IO_*. Called once, and again only after
     * DOCKLINE_IO_AGAIN.
     */
    int32_t (*shutdown_write)(void *user);
} dockline_endpoint;

/** How a relay behaves. */
typedef struct dockline_relay_options {
    /** Ends the relay after so many milliseconds without a byte in either direction. 0: never. */
    uint64_t idle_ms;
    /**
     * After the daemon's end was passed on: milliseconds to wait for the client's, while no byte
     * moves towards the upstream. 0: 5000. UINT64_MAX: for ever.
     */
    uint64_t linger_ms;
    /** About how many bytes one pump moves. 0: 1 MiB. */
    uint64_t budget_bytes;
    /** DOCKLINE_RELAY_* */
    uint32_t flags;
    /** 0 */
    uint32_t reserved;
} dockline_relay_options;

/** What a relay waits for. */
typedef struct dockline_relay_wants {
    /** enum dockline_relay_state */
    int32_t state;
    /** READ and WRITE bits of both sides to wait for. */
    uint32_t interest;
    /** When to pump at the latest, on the host's clock; or DOCKLINE_NO_DEADLINE. */
    uint64_t deadline_ms;
} dockline_relay_wants;

/** Counters of a relay. "Up" is from the client to the daemon. */
typedef struct dockline_relay_stats {
    /** Bytes that the upstream received. */
    uint64_t bytes_up;
    /** Bytes that the downstream received. */
    uint64_t bytes_down;
    /** Bytes read from the downstream, including prefilled ones. */
    uint64_t received_up;
    /** Bytes read from the upstream, including prefilled ones. */
    uint64_t received_down;
    /** How many of bytes_up went through a pipe. */
    uint64_t spliced_up;
    /** How many of bytes_down went through a pipe. */
    uint64_t spliced_down;
    /** When a byte last moved, on the host's clock. */
    uint64_t last_activity_ms;
    /** The side that ended first, by EOF or reset: enum dockline_side */
    int32_t first_closer;
    /** enum dockline_close_reason */
    int32_t close_reason;
    /** The errno of the last failed read, write or shutdown; 0 if none failed. */
    int32_t error_number;
    /**
     * The sides to close without close_notify because their streams were cut:
     * DOCKLINE_SIDE_DOWNSTREAM and DOCKLINE_SIDE_UPSTREAM as bits. For TCP descriptors SO_LINGER
     * has already been set.
     */
    int32_t abort_sides;
} dockline_relay_stats;

/**
 * Returns the word for a close reason, for logs: "none", "eof", "linger", "idle",
 * "downstream-reset", "upstream-reset", "drain", "killed".
 *
 * @param reason enum dockline_close_reason
 * @return a static string; "unknown" for another number
 * @since 0.1
 */
const char *dockline_close_reason_name(int32_t reason);

/**
 * Makes a relay. It moves nothing before the first pump.
 *
 * @param worker        shared with the other relays of the thread; may be freed before the relay
 * @param options       NULL for the default, and then options_size is 0
 * @param options_size  sizeof(dockline_relay_options)
 * @param downstream    the client's side, copied
 * @param upstream      the daemon's side, copied
 * @param endpoint_size sizeof(dockline_endpoint)
 * @param now_ms        the host's monotonic clock in milliseconds
 * @param out           set on success; free it with dockline_relay_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_BLOCKING,
 *         _E_NOT_STREAM, _E_SYSTEM
 * @since 0.1
 */
dockline_status dockline_relay_new(dockline_worker *worker,
                                   const dockline_relay_options *options,
                                   size_t options_size,
                                   const dockline_endpoint *downstream,
                                   const dockline_endpoint *upstream,
                                   size_t endpoint_size,
                                   uint64_t now_ms,
                                   dockline_relay **out);

/**
 * Hands over bytes that the host has already read from a side. They are copied and delivered
 * first.
 *
 * @param relay     before its first pump
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM: where they came from
 * @param data      len readable bytes; may be NULL if len is 0
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after
 *         the first pump; _E_LIMIT above 1 MiB in all on a side, nothing was taken then
 * @since 0.1
 */
dockline_status dockline_relay_prefill(dockline_relay *relay,
                                       int32_t from_side,
                                       const void *data,
                                       size_t len);

/**
 * Moves what can be moved, in both directions. May be called at any time, also without a reason.
 *
 * Both sides count as ready at first. Readiness is remembered until a read or write proves
 * otherwise, so an edge-triggered host passes each event once, and a level-triggered host waits
 * for interest.
 *
 * @param relay    not in use by another call
 * @param ready    what the host saw since the last pump: DOCKLINE_DOWNSTREAM_*,
 *                 DOCKLINE_UPSTREAM_*
 * @param now_ms   the host's monotonic clock in milliseconds
 * @param out      set on success
 * @param out_size sizeof(dockline_relay_wants)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_PANIC,
 *         _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_pump(dockline_relay *relay,
                                    uint32_t ready,
                                    uint64_t now_ms,
                                    dockline_relay_wants *out,
                                    size_t out_size);

/**
 * Ends the relay at at_ms with DOCKLINE_CLOSE_DRAIN, unless it ends before. An earlier limit
 * stays. The next pump returns the new deadline.
 *
 * @param relay not in use by another call
 * @param at_ms a time of the host's clock; one that has passed ends the relay at the next pump
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_drain(dockline_relay *relay, uint64_t at_ms);

/**
 * Ends the relay with DOCKLINE_CLOSE_KILLED at the next pump.
 *
 * @param relay not in use by another call
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_kill(dockline_relay *relay);

/**
 * Returns the counters of a relay.
 *
 * @param relay    not in use by another call
 * @param out      set on success
 * @param out_size sizeof(dockline_relay_stats)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_stats_get(const dockline_relay *relay,
                                         dockline_relay_stats *out,
                                         size_t out_size);

/**
 * Frees a relay in any state. Calls no callback and closes no descriptor of the host. Inside a
 * callback of the same relay it does nothing: free it after the pump.
 *
 * @param relay may be NULL
 * @since 0.1
 */
void dockline_relay_free(dockline_relay *relay);

/* ---- Messages ----
 *
 * Requests as connection and engine present them to the host, and replies that the host writes.
 */

/** One field line of a head. This struct never grows. */
typedef struct dockline_field {
    /** The name, as sent; compare it without regard to case. */
    dockline_str name;
    /** The value, without the whitespace around it. */
    dockline_str value;
} dockline_field;

/** A request head. All of it is borrowed, for as long as the function that returned it says. */
typedef struct dockline_request {
    /** The method, as sent. */
    dockline_str method;
    /** The request target, as sent. */
    dockline_str target;
    /** The field lines, in the order in which they were received. */
    const dockline_field *fields;
    /** How many there are. */
    size_t field_count;
    /** DOCKLINE_HTTP_10 or DOCKLINE_HTTP_11 */
    int32_t version;
    /** 0 */
    uint32_t reserved;
} dockline_request;

/** A reply that the host writes. Everything is copied. */
typedef struct dockline_reply {
    /** 200 to 599 */
    uint32_t status;
    /** 0 */
    uint32_t reserved;
    /**
     * Content-Type. Absent: body is a message in UTF-8 and is sent in the form that the Docker
     * Engine API has for errors, {"message": ...}, which docker prints.
     */
    dockline_str content_type;
    /** The body; none with status 204, 205 and 304. */
    const void *body;
    /** Bytes of body. */
    size_t body_len;
    /**
     * More fields. Connection, Content-Length, Content-Type, Transfer-Encoding and Upgrade are
     * refused.
     */
    const dockline_field *fields;
    /** How many there are. */
    size_t field_count;
} dockline_reply;

/**
 * Looks up a field of a request by name, without regard to case. Pure: any thread, no state.
 *
 * @param request      as the library returned it, while that is valid
 * @param request_size sizeof(dockline_request)
 * @param name         the name of the field
 * @param nth          0 for the first line of this name, 1 for the second, and so on
 * @param out_value    set on success: borrowed as the request is; absent if there is no such line
 * @return DOCKLINE_OK, also if there is no such line; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_request_field(const dockline_request *request,
                                       size_t request_size,
                                       dockline_str name,
                                       size_t nth,
                                       dockline_str *out_value);

/* ---- Records ----
 *
 * Who the client was and what became of its exchanges and tunnels, for access logs and metrics.
 */

/** Client flag: the connection is TLS. */
#define DOCKLINE_CLIENT_TLS 0x01u

/** Client flag: it came over a Unix socket, and pid, uid and gid are known (SO_PEERCRED). */
#define DOCKLINE_CLIENT_UNIX 0x02u

/** The peer of a client connection. */
typedef struct dockline_client {
    /** Its address in network byte order, ip_len bytes of it. */
    uint8_t ip[16];
    /** 4, 16, or 0 if there is no address. */
    uint32_t ip_len;
    /** Its port. */
    uint32_t port;
    /** DOCKLINE_CLIENT_* */
    uint32_t flags;
    /** The process that connected. For logs only: the number may have been reused since. */
    int32_t pid;
    /** The user of that process. */
    uint32_t uid;
    /** The group of that process. */
    uint32_t gid;
    /** The name of the engine's listener. */
    dockline_str listener;
    /**
     * If the peer is a trusted proxy, the address of its client that the request states, in
     * network byte order, forwarded_for_len bytes of it. Set by the engine.
     */
    uint8_t forwarded_for[16];
    /** 4, 16, or 0 if there is no such address. */
    uint32_t forwarded_for_len;
    /** 0 */
    uint32_t reserved;
} dockline_client;

/** What was going on when something failed. */
enum dockline_phase {
    /** Nothing failed. */
    DOCKLINE_PHASE_NONE = 0,
    /** The TLS handshake of a client. */
    DOCKLINE_PHASE_HANDSHAKE = 1,
    /** The request head was being read. */
    DOCKLINE_PHASE_REQUEST_HEAD = 2,
    /** The request body was being read, or passed on. */
    DOCKLINE_PHASE_REQUEST_BODY = 3,
    /**
     * An upstream connection was being made: name lookup, connect, TLS handshake with the upstream.
     */
    DOCKLINE_PHASE_CONNECT = 4,
    /** The response head was awaited. */
    DOCKLINE_PHASE_RESPONSE_HEAD = 5,
    /** The response body was being read, or passed on. */
    DOCKLINE_PHASE_RESPONSE_BODY = 6,
    /** The connection was a tunnel. */
    DOCKLINE_PHASE_TUNNEL = 7,
    /** The header of the PROXY protocol was being read. */
    DOCKLINE_PHASE_PROXY_HEADER = 8,
};

/**
 * Why something failed. docs/REASONS.md says what an operator can do about each. A later library
 * may have more.
 */
enum dockline_cause {
    /** Nothing failed. */
    DOCKLINE_CAUSE_NONE = 0,
    /** The connection was closed before the message was complete. */
    DOCKLINE_CAUSE_CLOSED_EARLY = 1,
    /** The connection was reset (ECONNRESET, EPIPE). */
    DOCKLINE_CAUSE_RESET = 2,
    /**
     * The connection failed with another error, for instance because the peer is no longer reachable
     * (ETIMEDOUT, EHOSTUNREACH).
     */
    DOCKLINE_CAUSE_LOST = 3,
    /** The TLS stream ended without a close_notify, so it may have been cut. */
    DOCKLINE_CAUSE_TLS_TRUNCATED = 4,
    /**
     * The TLS stream broke after the handshake: a fatal alert, or a record that cannot be decrypted.
     */
    DOCKLINE_CAUSE_TLS_STREAM = 5,
    /** CONNECT is not enabled. */
    DOCKLINE_CAUSE_METHOD_NOT_OFFERED = 10,
    /** The connection does not begin with a header of the PROXY protocol. */
    DOCKLINE_CAUSE_PROXY_HEADER_MALFORMED = 15,
    /** The client is none of the proxies that may connect to a listener with the PROXY protocol. */
    DOCKLINE_CAUSE_UNTRUSTED_PEER = 16,
    /** The response switches protocols although the request did not offer that protocol. */
    DOCKLINE_CAUSE_UNREQUESTED_SWITCH = 20,
    /** More interim responses (1xx) than are allowed. */
    DOCKLINE_CAUSE_TOO_MANY_INTERIM = 21,
    /** The connection was closed within the response body. */
    DOCKLINE_CAUSE_TRUNCATED = 22,
    /** connect(2) failed. */
    DOCKLINE_CAUSE_CONNECT_FAILED = 30,
    /** The upstream's host name cannot be resolved. */
    DOCKLINE_CAUSE_RESOLVE_FAILED = 31,
    /** The upstream has no address. */
    DOCKLINE_CAUSE_NO_ADDRESS = 32,
    /**
     * The upstream's address leads back to a listener of this proxy, or the connection has passed too
     * many proxies.
     */
    DOCKLINE_CAUSE_OWN_LISTENER = 33,
    /** The proxy has no descriptor, port or memory left for a connection. */
    DOCKLINE_CAUSE_OUT_OF_RESOURCES = 34,
    /** The proxy is shutting down, and the time for that has passed. */
    DOCKLINE_CAUSE_DRAINED = 40,
    /** The tunnel was ended by the operator or the host program. */
    DOCKLINE_CAUSE_KILLED = 41,
    /** A defect of the proxy, or of the program that it is a part of, ended the connection. */
    DOCKLINE_CAUSE_PANICKED = 42,
    /** The request head was not complete within head_ms. */
    DOCKLINE_CAUSE_REQUEST_HEAD_TIMEOUT = 50,
    /** The client sent nothing of the request body for body_ms. */
    DOCKLINE_CAUSE_REQUEST_BODY_TIMEOUT = 51,
    /** The client accepted nothing of the response for body_ms. */
    DOCKLINE_CAUSE_RESPONSE_DELIVERY_TIMEOUT = 52,
    /** The daemon accepted nothing of the request for response_ms. */
    DOCKLINE_CAUSE_REQUEST_DELIVERY_TIMEOUT = 53,
    /** The daemon sent no response head within response_ms. */
    DOCKLINE_CAUSE_RESPONSE_HEAD_TIMEOUT = 54,
    /** The daemon sent nothing of the response body for response_ms. */
    DOCKLINE_CAUSE_RESPONSE_BODY_TIMEOUT = 55,
    /**
     * Nothing moved in either direction of a stream for stream_idle_ms; the side is the one that was
     * to continue.
     */
    DOCKLINE_CAUSE_STREAM_IDLE_TIMEOUT = 56,
    /** The tunnel carried nothing for tunnel_idle_ms. */
    DOCKLINE_CAUSE_TUNNEL_IDLE_TIMEOUT = 57,
    /** The upstream's host name was not resolved within connect_ms. */
    DOCKLINE_CAUSE_RESOLVE_TIMEOUT = 58,
    /** No connection was established within connect_ms. */
    DOCKLINE_CAUSE_CONNECT_TIMEOUT = 59,
    /** The TLS handshake was not complete within its time limit. */
    DOCKLINE_CAUSE_HANDSHAKE_TIMEOUT = 60,
    /** The header of the PROXY protocol was not complete in time. */
    DOCKLINE_CAUSE_PROXY_HEADER_TIMEOUT = 61,
    /** The peer refused the handshake with an alert. */
    DOCKLINE_CAUSE_TLS_ALERT = 70,
    /** What was received is not TLS. */
    DOCKLINE_CAUSE_TLS_MALFORMED = 71,
    /**
     * The peer supports no protocol version, cipher suite or key exchange that this side allows.
     */
    DOCKLINE_CAUSE_TLS_INCOMPATIBLE = 72,
    /** The peer violated the protocol. */
    DOCKLINE_CAUSE_TLS_MISBEHAVED = 73,
    /** The peer has sent no certificate, although one is required. */
    DOCKLINE_CAUSE_TLS_NO_CERTIFICATE = 74,
    /** The peer's certificate is not issued by a trusted authority. */
    DOCKLINE_CAUSE_TLS_UNKNOWN_ISSUER = 75,
    /** The peer's certificate has expired or is not valid yet. */
    DOCKLINE_CAUSE_TLS_EXPIRED = 76,
    /** The peer's certificate is revoked. */
    DOCKLINE_CAUSE_TLS_REVOKED = 77,
    /** The revocation list has expired, or does not cover the peer's certificate. */
    DOCKLINE_CAUSE_TLS_REVOCATION_UNKNOWN = 78,
    /** The peer's certificate is for another name. */
    DOCKLINE_CAUSE_TLS_WRONG_NAME = 79,
    /** The peer's certificate is malformed, or not usable for this purpose. */
    DOCKLINE_CAUSE_TLS_BAD_CERTIFICATE = 80,
    /** The peer sent more than 64 KiB before the handshake was complete. */
    DOCKLINE_CAUSE_TLS_HANDSHAKE_TOO_LONG = 81,
    /** TLS failed otherwise. */
    DOCKLINE_CAUSE_TLS_FAILED = 82,
    /** A line ends in LF without CR. */
    DOCKLINE_CAUSE_BARE_LF = 101,
    /** A CR is not followed by LF. */
    DOCKLINE_CAUSE_BARE_CR = 102,
    /** More than one empty line before the request. */
    DOCKLINE_CAUSE_EXTRA_EMPTY_LINE = 103,
    /** Blank in the request line. */
    DOCKLINE_CAUSE_REQUEST_LINE_BLANK = 104,
    /** Request line without a version. */
    DOCKLINE_CAUSE_REQUEST_LINE_SHORT = 105,
    /** The method is not a token. */
    DOCKLINE_CAUSE_METHOD_BYTE = 106,
    /** The method is too long. */
    DOCKLINE_CAUSE_METHOD_TOO_LONG = 107,
    /** Forbidden byte in the request target. */
    DOCKLINE_CAUSE_TARGET_BYTE = 108,
    /** The request target has no form that the method allows. */
    DOCKLINE_CAUSE_TARGET_FORM = 109,
    /** Malformed authority in the request target. */
    DOCKLINE_CAUSE_TARGET_AUTHORITY = 110,
    /** The request target and Host name different authorities. */
    DOCKLINE_CAUSE_TARGET_HOST_MISMATCH = 111,
    /** The version is neither HTTP/1.0 nor HTTP/1.1. */
    DOCKLINE_CAUSE_UNSUPPORTED_VERSION = 112,
    /** The status code is not three digits from 100 to 599. */
    DOCKLINE_CAUSE_STATUS_CODE = 113,
    /** No space after the status code. */
    DOCKLINE_CAUSE_REASON_SPACE = 114,
    /** Control byte in the reason phrase. */
    DOCKLINE_CAUSE_REASON_BYTE = 115,
    /** Blank before the first field. */
    DOCKLINE_CAUSE_BLANK_BEFORE_FIELDS = 116,
    /** A field continues on a second line. */
    DOCKLINE_CAUSE_OBSOLETE_FOLD = 117,
    /** Blank in a field name. */
    DOCKLINE_CAUSE_FIELD_NAME_BLANK = 118,
    /** Empty field name. */
    DOCKLINE_CAUSE_FIELD_NAME_EMPTY = 119,
    /** Forbidden byte in a field name. */
    DOCKLINE_CAUSE_FIELD_NAME_BYTE = 120,
    /** Field line without a colon. */
    DOCKLINE_CAUSE_FIELD_COLON = 121,
    /** Control byte in a field value. */
    DOCKLINE_CAUSE_FIELD_VALUE_BYTE = 122,
    /** No Host. */
    DOCKLINE_CAUSE_HOST_MISSING = 123,
    /** More than one Host. */
    DOCKLINE_CAUSE_HOST_REPEATED = 124,
    /** Invalid Host. */
    DOCKLINE_CAUSE_HOST_INVALID = 125,
    /** An expectation other than 100-continue. */
    DOCKLINE_CAUSE_UNSUPPORTED_EXPECTATION = 126,
    /** Both Transfer-Encoding and Content-Length. */
    DOCKLINE_CAUSE_AMBIGUOUS_FRAMING = 127,
    /** Transfer-Encoding in an HTTP/1.0 message. */
    DOCKLINE_CAUSE_TRANSFER_CODING_IN_HTTP10 = 128,
    /** More than one Transfer-Encoding. */
    DOCKLINE_CAUSE_TRANSFER_CODING_REPEATED = 129,
    /** Invalid Transfer-Encoding. */
    DOCKLINE_CAUSE_TRANSFER_CODING_INVALID = 130,
    /** A transfer coding other than chunked. */
    DOCKLINE_CAUSE_UNSUPPORTED_TRANSFER_CODING = 131,
    /** More than one Content-Length. */
    DOCKLINE_CAUSE_CONTENT_LENGTH_REPEATED = 132,
    /** Invalid Content-Length. */
    DOCKLINE_CAUSE_CONTENT_LENGTH_INVALID = 133,
    /** Content-Length is too large. */
    DOCKLINE_CAUSE_CONTENT_LENGTH_TOO_LARGE = 134,
    /** Connection names a field that is not hop-by-hop. */
    DOCKLINE_CAUSE_CONNECTION_OPTION = 135,
    /** Chunk without a size. */
    DOCKLINE_CAUSE_CHUNK_SIZE_EMPTY = 136,
    /** Forbidden byte in a chunk size. */
    DOCKLINE_CAUSE_CHUNK_SIZE_BYTE = 137,
    /** Chunk size is too large. */
    DOCKLINE_CAUSE_CHUNK_SIZE_TOO_LARGE = 138,
    /** Malformed chunk extension. */
    DOCKLINE_CAUSE_CHUNK_EXTENSION_BYTE = 139,
    /** Chunk data is not followed by CR LF. */
    DOCKLINE_CAUSE_CHUNK_DATA_END = 140,
    /** The message has two readings. */
    DOCKLINE_CAUSE_READERS_DISAGREE = 141,
    /** The request line is too long. */
    DOCKLINE_CAUSE_REQUEST_LINE_TOO_LONG = 201,
    /** The head is too large. */
    DOCKLINE_CAUSE_HEAD_TOO_LARGE = 202,
    /** Too many fields. */
    DOCKLINE_CAUSE_TOO_MANY_FIELDS = 203,
    /** The extensions of a chunk are too long. */
    DOCKLINE_CAUSE_CHUNK_EXTENSION_TOO_LONG = 204,
    /** The chunk extensions of a message are too long. */
    DOCKLINE_CAUSE_CHUNK_EXTENSIONS_TOO_LONG = 205,
    /** Too little data for the chunk headers. */
    DOCKLINE_CAUSE_CHUNK_OVERHEAD = 206,
    /** The trailer section is too large. */
    DOCKLINE_CAUSE_TRAILER_TOO_LARGE = 207,
    /** Too many trailer fields. */
    DOCKLINE_CAUSE_TOO_MANY_TRAILER_FIELDS = 208,
    /** The body of a request that may become a tunnel is too long. */
    DOCKLINE_CAUSE_HELD_BODY_TOO_LONG = 209,
};

/** Why an exchange or a tunnel failed. This struct never grows. */
typedef struct dockline_failure {
    /** Whose fault it is: enum dockline_side; DOCKLINE_SIDE_NONE if nothing failed. */
    int32_t side;
    /** enum dockline_phase */
    int32_t phase;
    /** enum dockline_cause */
    int32_t cause;
    /** The errno of the system call that failed; 0 if none did or it is not known. */
    int32_t error_number;
    /** The alert of TLS (RFC 8446, section 6) that was received or sent; 0 if there is none. */
    uint32_t tls_alert;
    /** 0 */
    uint32_t reserved;
    /**
     * For a malformed message or a limit (DOCKLINE_CAUSE_BARE_LF and above): the offset of the
     * first byte that could not be accepted, from the start of the head or body that the phase
     * names.
     */
    uint64_t offset;
} dockline_failure;

/**
 * Returns the word for a phase, for logs, as in docs/REASONS.md: "connect", for instance.
 *
 * @param phase enum dockline_phase
 * @return a static string; "none" for DOCKLINE_PHASE_NONE, "unknown" for another number
 * @since 0.1
 */
const char *dockline_phase_name(int32_t phase);

/**
 * Returns the word for a cause, for logs, as in docs/REASONS.md: "connect-failed", for instance.
 *
 * @param cause enum dockline_cause
 * @return a static string; "none" for DOCKLINE_CAUSE_NONE, "unknown" for another number
 * @since 0.1
 */
const char *dockline_cause_name(int32_t cause);

/** How an exchange ended. */
enum dockline_exchange_end {
    /** The response was delivered whole, or the tunnel was opened. */
    DOCKLINE_END_COMPLETE = 1,
    /** The proxy replied by itself, as the host decided. */
    DOCKLINE_END_REPLIED = 2,
    /** The request could not be accepted: malformed, over a limit, or refused. */
    DOCKLINE_END_BAD_REQUEST = 3,
    /** The client took too long to send its request or to receive the response. */
    DOCKLINE_END_CLIENT_TIMEOUT = 4,
    /** The client closed its connection. */
    DOCKLINE_END_CLIENT_ABORTED = 5,
    /** The upstream could not be reached. */
    DOCKLINE_END_UNREACHABLE = 6,
    /** The upstream's response was malformed, or the connection ended or failed before one. */
    DOCKLINE_END_BAD_RESPONSE = 7,
    /** The upstream took too long to respond or to receive the request. */
    DOCKLINE_END_UPSTREAM_TIMEOUT = 8,
    /** The upstream's response was cut short, and the client could see that. */
    DOCKLINE_END_TRUNCATED = 9,
    /** The host ended it, or the proxy itself failed. */
    DOCKLINE_END_STOPPED = 10,
};

/**
 * Exchange flag: it used a kept upstream connection. Set by the engine; a host that connects
 * itself knows.
 */
#define DOCKLINE_EXCHANGE_REUSED 0x01u

/**
 * One exchange, from the first byte of the request to the end of the response or the beginning of
 * a tunnel.
 */
typedef struct dockline_exchange_record {
    /** The method; empty if the request could not be read. */
    dockline_str method;
    /** The request target, as sent; empty if the request could not be read. */
    dockline_str target;
    /** The name of the engine's upstream that received the request; empty if none did. */
    dockline_str upstream;
    /** Body bytes from the client. */
    uint64_t bytes_up;
    /** Body bytes to the client. */
    uint64_t bytes_down;
    /**
     * Microseconds from the first byte of the request to the end of the response (of its head for
     * a tunnel).
     */
    uint64_t duration_us;
    /**
     * Microseconds from the first byte of the request to the head of the response; 0 without a
     * response.
     */
    uint64_t head_us;
    /** The status of the response; 0 if none was sent. */
    uint32_t status;
    /** enum dockline_exchange_end */
    int32_t end;
    /** DOCKLINE_DECISION_TUNNEL_*, or 0 if it did not become a tunnel. */
    int32_t tunnel;
    /** DOCKLINE_EXCHANGE_* */
    uint32_t flags;
    /**
     * Why it failed, for all ends except DOCKLINE_END_COMPLETE, _REPLIED, and _STOPPED where
     * everything was stopped.
     */
    dockline_failure failure;
    /** The name of the engine's route that the request took; absent if it has none. */
    dockline_str route;
    /**
     * The number of the engine's tunnel that it became, for dockline_engine_kill_tunnel; 0 if it
     * did not.
     */
    uint64_t tunnel_id;
} dockline_exchange_record;

/** One tunnel that ended. */
typedef struct dockline_tunnel_record {
    /** The method of the request that opened it; empty for a connection that was not HTTP. */
    dockline_str method;
    /** The target of that request, at most its first 255 bytes. */
    dockline_str target;
    /** The name of the upstream or of the pair. */
    dockline_str upstream;
    /** Bytes that the upstream received. */
    uint64_t bytes_up;
    /** Bytes that the downstream received. */
    uint64_t bytes_down;
    /** Bytes read from the downstream. */
    uint64_t received_up;
    /** Bytes read from the upstream. */
    uint64_t received_down;
    /** How many microseconds it was open. */
    uint64_t duration_us;
    /** DOCKLINE_DECISION_TUNNEL_*, or 0 for a connection that was not HTTP. */
    int32_t tunnel;
    /** The side that ended first: enum dockline_side */
    int32_t first_closer;
    /** enum dockline_close_reason */
    int32_t close_reason;
    /** 0 */
    uint32_t reserved;
    /** Why it failed, for all close reasons except DOCKLINE_CLOSE_EOF and _LINGER. */
    dockline_failure failure;
    /** The name of the route that led to the upstream; absent if it has none. */
    dockline_str route;
    /** Its number, which no other tunnel of this process has. */
    uint64_t id;
} dockline_tunnel_record;

/**
 * Returns the word for the end of an exchange, for logs: "complete", "replied", "bad-request",
 * "client-timeout", "client-aborted", "unreachable", "bad-response", "upstream-timeout",
 * "truncated", "stopped".
 *
 * @param end enum dockline_exchange_end
 * @return a static string; "unknown" for another number
 * @since 0.1
 */
const char *dockline_exchange_end_name(int32_t end);

/* ---- Connection ----
 *
 * The HTTP of one client connection, without a socket: the host passes bytes in both directions,
 * connects to upstreams and keeps the time.
 */

/**
 * Connection flag: Host has to be a host and a port. Without it any value is accepted, since
 * Docker clients send odd ones. Set it if you route by Host.
 */
#define DOCKLINE_CONN_STRICT_HOST 0x01u

/**
 * Connection flag: forward CONNECT. Without it CONNECT is refused and the connection closed
 * (RFC 9931).
 */
#define DOCKLINE_CONN_ALLOW_CONNECT 0x02u

/** Connection flag: send X-Forwarded-For, -Proto, -Host and -Port, and X-Real-IP. */
#define DOCKLINE_CONN_X_FORWARDED 0x04u

/** Connection flag: send Forwarded (RFC 7239). */
#define DOCKLINE_CONN_FORWARDED 0x08u

/**
 * Connection flag: all clients are trusted proxies, whose values of these fields are kept. Without
 * it they are removed, except for those of dockline_conn_options.trusted.
 */
#define DOCKLINE_CONN_TRUSTED 0x10u

/**
 * Connection flag: responses after which the connection is kept state for how long (Keep-Alive:
 * timeout=N), so that a client does not send a request into a connection that is being closed. N
 * is somewhat less than keep_alive_ms.
 */
#define DOCKLINE_CONN_KEEP_ALIVE_HINT 0x20u

/** The maximum of held_bytes for dockline_conn_new: 512 KiB. */
#define DOCKLINE_CONN_HELD_MAX 524288u

/**
 * Bounds and behaviour of HTTP connections. Times are totals, which a byte now and then does not
 * extend, unless the field says so; UINT64_MAX is in effect no limit.
 */
typedef struct dockline_conn_options {
    /** The name of this hop in Via, a token; absent: no Via is added. */
    dockline_str via;
    /** A path below which the daemon is served; absent: at the root. */
    dockline_str base;
    /** Bytes of a request head. 0: 64 KiB. */
    uint64_t request_head_bytes;
    /** Bytes of a request line. 0: 16 KiB. */
    uint64_t request_line_bytes;
    /** Bytes of a response head. 0: 64 KiB. */
    uint64_t response_head_bytes;
    /**
     * Bytes that a client may send behind a request that may become a tunnel, before the response;
     * also the longest body that is read whole first. 0: 64 KiB. dockline_conn_new accepts
     * DOCKLINE_CONN_HELD_MAX at most: they have to fit into dockline_relay_prefill, with what the
     * last read brought on top.
     */
    uint64_t held_bytes;
    /** From the first byte of a request head to its end. 0: 15000. */
    uint64_t head_ms;
    /**
     * Without a byte of a request body from the client, or of a response received by it, while the
     * proxy waits for the client. Not for streams (DOCKLINE_REQUEST_STREAM), except for the
     * request of one without body_may_pause. 0: 300000.
     */
    uint64_t body_ms;
    /**
     * From the end of the request to the response head, and then without a byte of the response.
     * Not for streams. 0: for ever.
     */
    uint64_t response_ms;
    /**
     * Ends a stream (DOCKLINE_REQUEST_STREAM) after so long without a byte in either direction. 0:
     * never.
     */
    uint64_t stream_idle_ms;
    /** How long a client connection may be idle between requests. 0: 300000. */
    uint64_t keep_alive_ms;
    /**
     * How long a connection that is being closed may still send, so that the last response is not
     * lost to a reset. 0: 2000.
     */
    uint64_t closing_ms;
    /** Engine only. One attempt to connect to one address of an upstream. 0: 5000. */
    uint64_t connect_ms;
    /** Engine only. How long an unused upstream connection is kept. 0: 60000. */
    uint64_t pool_ms;
    /** Engine only. Ends a tunnel after so long without a byte in either direction. 0: never. */
    uint64_t tunnel_idle_ms;
    /**
     * Requests on one client connection; the response to the last one has Connection: close. 0:
     * 100000.
     */
    uint32_t requests;
    /** Field lines in one head. 0: 128. */
    uint32_t fields;
    /** Engine only. Unused connections kept for each upstream. 0: 128. */
    uint32_t pool_size;
    /** DOCKLINE_CONN_*, except DOCKLINE_CONN_HELD_MAX */
    uint32_t flags;
    /**
     * The clients that are trusted proxies, separated by commas: addresses, networks such as
     * 10.0.0.0/8, and "unix" for clients without an IP address; or "all". Absent with
     * DOCKLINE_CONN_TRUSTED, which is the same as "all".
     */
    dockline_str trusted;
} dockline_conn_options;

/** Half-close the downstream, then call dockline_conn_shut_done. */
#define DOCKLINE_DOWNSTREAM_SHUT 0x100u

/** Half-close the upstream, then call dockline_conn_shut_done. */
#define DOCKLINE_UPSTREAM_SHUT 0x1000u

/** What the host has to do. */
enum dockline_conn_event_kind {
    /** Nothing for now. */
    DOCKLINE_EVENT_NONE = 0,
    /**
     * A request was read (dockline_conn_request_view): find a connection for it and call
     * dockline_conn_upstream_ready or dockline_conn_upstream_failed; or call dockline_conn_reply.
     */
    DOCKLINE_EVENT_NEED_UPSTREAM = 1,
    /**
     * The upstream connection is no longer used: keep it for other requests if DOCKLINE_EVENT_KEEP is
     * set, else close it.
     */
    DOCKLINE_EVENT_RELEASE_UPSTREAM = 2,
    /** An exchange has ended (dockline_conn_record_get). Also precedes DOCKLINE_EVENT_TUNNEL. */
    DOCKLINE_EVENT_EXCHANGE_ENDED = 3,
    /** From now on both connections carry raw bytes: call dockline_conn_tunnel_take. */
    DOCKLINE_EVENT_TUNNEL = 4,
    /**
     * Close the client's connection, by a reset if DOCKLINE_EVENT_RESET is set, and free the handle.
     */
    DOCKLINE_EVENT_CLOSED = 5,
};

/**
 * Event flag, with NEED_UPSTREAM: a kept connection may be used. Without it, use a new one: the
 * request must not be sent twice, and the peer of a kept connection may be closing it.
 */
#define DOCKLINE_EVENT_MAY_REUSE 0x01u

/**
 * Event flag, with NEED_UPSTREAM: the same request was sent before, on a kept connection that
 * turned out to be closed.
 */
#define DOCKLINE_EVENT_AGAIN 0x02u

/** Event flag, with RELEASE_UPSTREAM: the connection may serve other requests. */
#define DOCKLINE_EVENT_KEEP 0x04u

/** Event flag, with CLOSED: a clean end would look like the end of the response. */
#define DOCKLINE_EVENT_RESET 0x08u

/** Why there is no upstream connection for a request, and the status that the client receives. */
enum dockline_upstream_failure {
    /** No connection could be made: 502. */
    DOCKLINE_FAILED_UNREACHABLE = 1,
    /** The attempt took too long: 504. */
    DOCKLINE_FAILED_TIMEOUT = 2,
    /** There is no descriptor or memory for another connection: 503. */
    DOCKLINE_FAILED_OVERLOADED = 3,
};

/**
 * One client connection as HTTP/1.1, and the upstream connections that serve it one after the
 * other. The host owns the sockets and the clock and decides where a request goes.
 */
typedef struct dockline_conn dockline_conn;

/** An event of a connection. */
typedef struct dockline_conn_event {
    /** enum dockline_conn_event_kind */
    int32_t kind;
    /** DOCKLINE_EVENT_MAY_REUSE, _AGAIN, _KEEP, _RESET */
    uint32_t flags;
    /** With TUNNEL: DOCKLINE_DECISION_TUNNEL_*. */
    int32_t tunnel;
    /** 0 */
    uint32_t reserved;
} dockline_conn_event;

/**
 * What a tunnel begins with: bytes that were received and not yet sent on. They belong to the
 * handle.
 */
typedef struct dockline_conn_tunnel {
    /** From the client, for the upstream. */
    const void *from_downstream;
    /** Bytes of from_downstream. */
    size_t from_downstream_len;
    /** From the upstream, for the client. */
    const void *from_upstream;
    /** Bytes of from_upstream. */
    size_t from_upstream_len;
} dockline_conn_tunnel;

/**
 * Makes the handle of a client connection that was just accepted.
 *
 * @param options      NULL for the default, and then options_size is 0; copied
 * @param options_size sizeof(dockline_conn_options)
 * @param client       what Forwarded and X-Forwarded-* say of the client: ip, ip_len and
 *                     DOCKLINE_CLIENT_TLS. NULL, and then client_size is 0: no address
 * @param client_size  sizeof(dockline_client)
 * @param now_ms       the host's monotonic clock in milliseconds
 * @param out          set on success; free it with dockline_conn_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_conn_new(const dockline_conn_options *options,
                                  size_t options_size,
                                  const dockline_client *client,
                                  size_t client_size,
                                  uint64_t now_ms,
                                  dockline_conn **out);

/**
 * Passes bytes that were received from a side. All of them are consumed.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param data   len readable bytes; may be NULL if len is 0
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC;
 *         _E_STATE if the side is not to be read now (dockline_conn_wants): nothing was consumed
 * @since 0.1
 */
dockline_status dockline_conn_feed(dockline_conn *conn,
                                   int32_t side,
                                   const void *data,
                                   size_t len,
                                   uint64_t now_ms);

/**
 * Reports that the stream of a side has ended. That includes a client's TLS stream without
 * close_notify, since a request is complete or not by itself; it excludes an upstream's.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_feed_eof(dockline_conn *conn, int32_t side, uint64_t now_ms);

/**
 * Reports that the connection of a side has failed: a reset, or the end of an upstream's TLS
 * stream without close_notify.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param error_number the errno of the read that failed; 0: a TLS stream was cut, without
 *                     close_notify
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_feed_error(dockline_conn *conn,
                                         int32_t side,
                                         int32_t error_number,
                                         uint64_t now_ms);

/**
 * Returns the bytes to be sent to a side. They stay until dockline_conn_output_sent.
 *
 * @param conn     not in use by another call
 * @param side     DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param out_data set on success; borrowed until the next call on conn that takes a time
 * @param out_len  set on success: their number, which may be 0
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_output_view(const dockline_conn *conn,
                                          int32_t side,
                                          const uint8_t **out_data,
                                          size_t *out_len);

/**
 * Reports that bytes were sent to a side.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param len    how many; at most what dockline_conn_output_view returned
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_output_sent(dockline_conn *conn,
                                          int32_t side,
                                          size_t len,
                                          uint64_t now_ms);

/**
 * Reports that nothing more can be sent to a side (EPIPE). Continue to read an upstream: it may
 * have sent a response.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param error_number the errno of the write that failed; 0: TLS failed
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_output_refused(dockline_conn *conn,
                                             int32_t side,
                                             int32_t error_number,
                                             uint64_t now_ms);

/**
 * Reports that a side was half-closed, as DOCKLINE_DOWNSTREAM_SHUT or DOCKLINE_UPSTREAM_SHUT
 * asked.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_shut_done(dockline_conn *conn, int32_t side, uint64_t now_ms);

/**
 * Returns what to wait for and what to do on both sides. Call it when there are no more events.
 *
 * @param conn            not in use by another call
 * @param out_interest    set on success: READ (then dockline_conn_feed), WRITE
 *                        (dockline_conn_output_view) and SHUT bits of both sides,
 *                        DOCKLINE_DOWNSTREAM_* and DOCKLINE_UPSTREAM_*
 * @param out_deadline_ms set on success: when to call dockline_conn_handle_timeout, on the host's
 *                        clock; or DOCKLINE_NO_DEADLINE
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_wants(const dockline_conn *conn,
                                    uint32_t *out_interest,
                                    uint64_t *out_deadline_ms);

/**
 * Acts on the deadline, if it has passed.
 *
 * @param conn   not in use by another call
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_handle_timeout(dockline_conn *conn, uint64_t now_ms);

/**
 * Takes the next event. Call it after every call that takes a time, until there is
 * DOCKLINE_EVENT_NONE.
 *
 * @param conn     not in use by another call
 * @param out      set on success
 * @param out_size sizeof(dockline_conn_event)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_next_event(dockline_conn *conn,
                                         dockline_conn_event *out,
                                         size_t out_size);

/**
 * Ends the connection as soon as the present exchange, if there is one, has ended.
 *
 * @param conn   not in use by another call
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_drain(dockline_conn *conn, uint64_t now_ms);

/**
 * Ends the connection now. The events say what to close.
 *
 * @param conn   not in use by another call
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_kill(dockline_conn *conn, uint64_t now_ms);

/**
 * Frees a connection in any state. Closes nothing, since the sockets are the host's.
 *
 * @param conn may be NULL
 * @since 0.1
 */
void dockline_conn_free(dockline_conn *conn);

/**
 * Returns the head of the present request.
 *
 * @param conn     not in use by another call
 * @param out      set on success; what it points to is borrowed until the next call on conn that
 *                 takes a time
 * @param out_size sizeof(dockline_request)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE if
 *         there is none
 * @since 0.1
 */
dockline_status dockline_conn_request_view(const dockline_conn *conn,
                                           dockline_request *out,
                                           size_t out_size);

/**
 * Reports that there is a connection for the request, which is then sent on it.
 *
 * @param conn   not in use by another call
 * @param host   replaces the Host of the request; absent: the client's is sent
 * @param reused 1 if the connection has served a request before, 0 if it is new
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC;
 *         _E_STATE if no DOCKLINE_EVENT_NEED_UPSTREAM awaits its answer, or no longer does: the
 *         connection stays with the host
 * @since 0.1
 */
dockline_status dockline_conn_upstream_ready(dockline_conn *conn,
                                             dockline_str host,
                                             int32_t reused,
                                             uint64_t now_ms);

/**
 * Reports that there is no connection for the request. The client receives an error.
 *
 * @param conn    not in use by another call
 * @param failure enum dockline_upstream_failure
 * @param error_number the errno of the system call that failed; 0 if none did
 * @param now_ms  the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC;
 *         _E_STATE as for dockline_conn_upstream_ready
 * @since 0.1
 */
dockline_status dockline_conn_upstream_failed(dockline_conn *conn,
                                              int32_t failure,
                                              int32_t error_number,
                                              uint64_t now_ms);

/**
 * Replies to the request.
 *
 * @param conn       not in use by another call
 * @param reply      copied
 * @param reply_size sizeof(dockline_reply)
 * @param now_ms     the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC; _E_STATE as for dockline_conn_upstream_ready
 * @since 0.1
 */
dockline_status dockline_conn_reply(dockline_conn *conn,
                                    const dockline_reply *reply,
                                    size_t reply_size,
                                    uint64_t now_ms);

/**
 * Returns how many bytes may be moved from one side to the other without this handle, by splice(2)
 * for instance: the rest of a body that is forwarded as it is.
 *
 * @param conn      not in use by another call
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param out_len   set on success; UINT64_MAX: until the connection ends; 0 while the handle still
 *                  holds bytes that precede them
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_passthrough(const dockline_conn *conn,
                                          int32_t from_side,
                                          uint64_t *out_len);

/**
 * Reports bytes that bypassed this handle and wait for the other side, in a pipe for example: from
 * now on the time limits of that side apply. Call dockline_conn_passed when they were sent. A host
 * that never holds such bytes need not call it.
 *
 * @param conn      not in use by another call
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param len       how many; at most what dockline_conn_passthrough returned
 * @param now_ms    the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_offered(dockline_conn *conn,
                                      int32_t from_side,
                                      uint64_t len,
                                      uint64_t now_ms);

/**
 * Reports bytes that bypassed this handle and were sent to the other side.
 *
 * @param conn      not in use by another call
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param len       how many; at most what dockline_conn_passthrough returned plus what was offered
 * @param now_ms    the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED,
 *         _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_passed(dockline_conn *conn,
                                     int32_t from_side,
                                     uint64_t len,
                                     uint64_t now_ms);

/**
 * Ends HTTP after DOCKLINE_EVENT_TUNNEL. Hand both connections and these bytes to a relay
 * (dockline_relay_new, then dockline_relay_prefill) or to an engine (dockline_engine_adopt_pair),
 * then free the handle. From now on only this function, dockline_conn_record_get and
 * dockline_conn_free may be called.
 *
 * @param conn     not in use by another call
 * @param out      set on success; what it points to is borrowed until conn is freed
 * @param out_size sizeof(dockline_conn_tunnel)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE before
 *         that event
 * @since 0.1
 */
dockline_status dockline_conn_tunnel_take(dockline_conn *conn,
                                          dockline_conn_tunnel *out,
                                          size_t out_size);

/**
 * Returns the record of the exchange that the last DOCKLINE_EVENT_EXCHANGE_ENDED was about.
 *
 * @param conn     not in use by another call
 * @param out      set on success; what it points to is borrowed until the next
 *                 dockline_conn_next_event
 * @param out_size sizeof(dockline_exchange_record)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE before
 *         the first
 * @since 0.1
 */
dockline_status dockline_conn_record_get(const dockline_conn *conn,
                                         dockline_exchange_record *out,
                                         size_t out_size);

/* ---- Engine ----
 *
 * A loop that owns its sockets. Listeners and upstreams are given to it; callbacks decide about
 * requests and receive records.
 */

/** The header of the PROXY protocol that an upstream expects. */
enum dockline_proxy_protocol {
    /** None. */
    DOCKLINE_PROXY_PROTOCOL_NONE = 0,
    /** A line of text. */
    DOCKLINE_PROXY_PROTOCOL_V1 = 1,
    /** Binary. */
    DOCKLINE_PROXY_PROTOCOL_V2 = 2,
};

/**
 * A server that receives requests or connections. Any thread may use it, and any number of
 * engines.
 */
typedef struct dockline_upstream dockline_upstream;

/**
 * Where an upstream is and what it is sent. Text is copied. An engine does not connect to its own
 * listeners.
 */
typedef struct dockline_upstream_options {
    /**
     * "unix:///PATH", "unix://@NAME" (in the abstract namespace), or "tcp://HOST:PORT", IPv6
     * addresses in brackets. Required.
     */
    dockline_str address;
    /** Its name in records and logs, in UTF-8; absent: the address. */
    dockline_str name;
    /**
     * Replaces the Host of requests; absent: the client's is sent. A Docker daemon does not use
     * it, but refuses some values that its own clients send: set it, to "docker" for instance.
     */
    dockline_str host;
    /**
     * enum dockline_proxy_protocol: what each connection begins with, to name the client. Such a
     * connection serves requests of that client's connection only.
     */
    int32_t proxy_protocol;
    /** 0 */
    uint32_t reserved;
} dockline_upstream_options;

/**
 * Makes an upstream. Nothing is connected before there is a request for it.
 *
 * @param options      copied
 * @param options_size sizeof(dockline_upstream_options)
 * @param out          set on success; free it with dockline_upstream_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE; _E_VALUE, also for an address of another form
 * @since 0.1
 */
dockline_status dockline_upstream_new(const dockline_upstream_options *options,
                                      size_t options_size,
                                      dockline_upstream **out);

/**
 * Adds an address, which is tried when those before it cannot be reached. Only before the upstream
 * is used.
 *
 * @param upstream from dockline_upstream_new
 * @param address  as in dockline_upstream_options, copied
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED; _E_STATE if a listener
 *         or a request uses the upstream
 * @since 0.1
 */
dockline_status dockline_upstream_add_address(dockline_upstream *upstream,
                                              dockline_str address);

/**
 * Returns how many requests and tunnels are in flight to an upstream now, over all engines. A
 * request is from when it was decided about until its exchange has ended or became a tunnel, or
 * until another upstream is tried for it.
 *
 * @param upstream     any thread may call this
 * @param out_requests set on success; may be NULL
 * @param out_tunnels  set on success; may be NULL
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_upstream_in_flight(const dockline_upstream *upstream,
                                            uint64_t *out_requests,
                                            uint64_t *out_tunnels);

/**
 * Frees an upstream. Engines that use it continue to do so.
 *
 * @param upstream may be NULL
 * @since 0.1
 */
void dockline_upstream_free(dockline_upstream *upstream);

/**
 * The decision about one request. It is valid within the callback that receives it,
 * dockline_listener_options.route; one of dockline_route_later until it is freed, and one thread
 * at a time uses it.
 */
typedef struct dockline_route dockline_route;

/** Changes to the head of a request. Everything is copied. */
typedef struct dockline_rewrite {
    /** Replaces the target: a path, which may have a query; absent: as the client has sent it. */
    dockline_str target;
    /** Replaces the Host, that of the upstream too; absent: as without it. */
    dockline_str host;
    /**
     * Fields that replace those of the same name. Those that frame the message or concern one
     * hop, Host, Expect, Via, Forwarded, X-Real-IP, X-Forwarded-For, -Proto and -Host are refused.
     */
    const dockline_field *fields;
    /** How many there are. */
    size_t field_count;
} dockline_rewrite;

/**
 * Decides about a request by dockline_route_upstream, dockline_route_reply or dockline_route_later
 * before it returns. It must not block, unwind or longjmp.
 */
typedef void (*dockline_route_callback)(void *user, dockline_route *route);

/**
 * Returns the client that sent the request.
 *
 * @param route    within its callback
 * @param out      set on success; what it points to is borrowed until the callback returns
 * @param out_size sizeof(dockline_client)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after
 *         the callback
 * @since 0.1
 */
dockline_status dockline_route_client(const dockline_route *route,
                                      dockline_client *out,
                                      size_t out_size);

/**
 * Returns the request head.
 *
 * @param route    within its callback
 * @param out      set on success; what it points to is borrowed until the callback returns
 * @param out_size sizeof(dockline_request)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after
 *         the callback
 * @since 0.1
 */
dockline_status dockline_route_request(const dockline_route *route,
                                       dockline_request *out,
                                       size_t out_size);

/**
 * Sends the request to an upstream. The last decision counts; without one the client receives a
 * 500.
 *
 * @param route    within its callback, or of dockline_route_later
 * @param upstream may be freed afterwards
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_route_upstream(dockline_route *route,
                                        const dockline_upstream *upstream);

/**
 * Adds an upstream that is tried if a connection to those before it cannot be made and nothing of
 * the request was sent. Only after dockline_route_upstream, and seven times at most.
 *
 * @param route    within its callback, or of dockline_route_later
 * @param upstream may be freed afterwards
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE without an
 *         upstream or with too many
 * @since 0.1
 */
dockline_status dockline_route_add_upstream(dockline_route *route,
                                            const dockline_upstream *upstream);

/**
 * Names the route, for the records and logs. Only after dockline_route_upstream.
 *
 * @param route within its callback, or of dockline_route_later
 * @param name  in UTF-8, copied; absent: none
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE
 *         without an upstream
 * @since 0.1
 */
dockline_status dockline_route_name(dockline_route *route, dockline_str name);

/**
 * Changes the head that the upstream receives; the record has the one that was received. Only
 * after dockline_route_upstream; a second call replaces the first.
 *
 * @param route        within its callback, or of dockline_route_later
 * @param rewrite      copied
 * @param rewrite_size sizeof(dockline_rewrite)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED;
 *         _E_STATE without an upstream
 * @since 0.1
 */
dockline_status dockline_route_rewrite(dockline_route *route,
                                       const dockline_rewrite *rewrite,
                                       size_t rewrite_size);

/**
 * Replies to the request. The last decision counts.
 *
 * @param route      within its callback, or of dockline_route_later
 * @param reply      copied
 * @param reply_size sizeof(dockline_reply)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_route_reply(dockline_route *route,
                                     const dockline_reply *reply,
                                     size_t reply_size);

/**
 * Makes the request wait for a decision that comes later. The host keeps the result, and decides
 * by it on whatever thread: dockline_route_upstream or _reply, and what belongs to them, then
 * dockline_route_decide. Of the request it keeps copies.
 *
 * A client that resets its connection, and an engine that is stopped at once, end the wait; a
 * decision after it has no effect.
 *
 * @param route          within its callback
 * @param time_ms        how long the request waits, an hour at most
 * @param otherwise      the reply after that time, copied; NULL for a 503, and then otherwise_size
 *                       is 0
 * @param otherwise_size sizeof(dockline_reply)
 * @param out            set on success; free it with dockline_route_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED;
 *         _E_STATE after the callback
 * @since 0.1
 */
dockline_status dockline_route_later(dockline_route *route,
                                     uint64_t time_ms,
                                     const dockline_reply *otherwise,
                                     size_t otherwise_size,
                                     dockline_route **out);

/**
 * Returns whether a request still waits. It does not if its client has gone, its time is up, the
 * callback has decided otherwise in the end, or it was decided about.
 *
 * @param route       of dockline_route_later
 * @param out_waiting set on success: 1 or 0
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE for
 *         the one of a callback
 * @since 0.1
 */
dockline_status dockline_route_is_waiting(const dockline_route *route, int32_t *out_waiting);

/**
 * Tells the engine what was decided about a request that waits. That is final.
 *
 * @param route of dockline_route_later; it is still to be freed
 * @return DOCKLINE_OK, also if nothing waits any more; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY,
 *         _E_POISONED; _E_STATE without a decision, after an earlier call, or for the one of a
 *         callback
 * @since 0.1
 */
dockline_status dockline_route_decide(dockline_route *route);

/**
 * Frees what dockline_route_later has made; one that a callback has received it leaves alone. If
 * nothing was decided and the request still waits, its client receives a 503.
 *
 * @param route may be NULL
 * @since 0.1
 */
void dockline_route_free(dockline_route *route);

/**
 * Receives an exchange that ended or became a tunnel. The structs are borrowed for the call. The
 * sizes are those that the library knows: a program built against a newer header checks them
 * before it reads newer fields.
 */
typedef void (*dockline_exchange_callback)(void *user,
                                           const dockline_client *client,
                                           size_t client_size,
                                           const dockline_exchange_record *record,
                                           size_t record_size);

/** Receives a tunnel that ended; otherwise like dockline_exchange_callback. */
typedef void (*dockline_tunnel_callback)(void *user,
                                         const dockline_client *client,
                                         size_t client_size,
                                         const dockline_tunnel_record *record,
                                         size_t record_size);

/** What a listener serves. */
enum dockline_service {
    /** HTTP/1.1, request by request. */
    DOCKLINE_SERVICE_HTTP = 0,
    /**
     * Bytes: each connection is joined with one to the upstream, or reset if that cannot be reached.
     */
    DOCKLINE_SERVICE_FORWARD = 1,
};

/** States of an engine. */
enum dockline_engine_state {
    /** It serves. */
    DOCKLINE_ENGINE_RUNNING = 0,
    /** It was stopped and finishes what it has begun. */
    DOCKLINE_ENGINE_DRAINING = 1,
    /** Nothing is left to do. */
    DOCKLINE_ENGINE_DONE = 2,
};

/**
 * A loop that owns its sockets: it accepts, connects, speaks HTTP and relays tunnels. One thread
 * at a time drives it (dockline_engine_poll, _run, _timeout_ms); any thread may call the rest
 * except dockline_engine_free. Make it after fork(2).
 */
typedef struct dockline_engine dockline_engine;

/**
 * Bounds, behaviour and callbacks of an engine. Callbacks are called on the thread that drives the
 * engine, within dockline_engine_poll and _run. They must not block, unwind or longjmp. Within
 * them dockline_engine_poll, _run and _timeout_ms return DOCKLINE_E_BUSY and dockline_engine_free
 * does nothing; all other functions may be used.
 */
typedef struct dockline_engine_options {
    /** An exchange has ended or became a tunnel. NULL: not reported. */
    dockline_exchange_callback exchange_ended;
    /** A tunnel has ended. NULL: not reported. */
    dockline_tunnel_callback tunnel_ended;
    /** Something unusual has happened. NULL: no log. */
    dockline_log_callback log;
    /** The first argument of the callbacks. */
    void *user;
    /**
     * Client connections at a time; at the maximum, accepting waits. 0: a third of the descriptors
     * that the process may open (RLIMIT_NOFILE), less 64.
     */
    uint64_t connections;
    /** As in dockline_relay_options, for tunnels. 0: 5000. */
    uint64_t linger_ms;
    /** About how many bytes one turn moves for one tunnel. 0: 1 MiB. */
    uint64_t budget_bytes;
    /** Connections accepted for each listener in one turn. 0: 64. */
    uint32_t accepts;
    /** Pipes in use at a time, two descriptors each. 0: 64. */
    uint32_t max_pipes;
    /** The size to request for each pipe; the kernel may grant less. 0: 1 MiB. */
    uint32_t pipe_bytes;
    /** DOCKLINE_RELAY_NO_SPLICE, DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS */
    uint32_t flags;
} dockline_engine_options;

/** What is served on a listener. Everything is copied. */
typedef struct dockline_listener_options {
    /** Its name in records and logs, in UTF-8; may be absent. */
    dockline_str name;
    /**
     * For HTTP: called once for each request, before any of it is sent, on the thread that drives
     * the engine, until the engine is freed.
     */
    dockline_route_callback route;
    /** The first argument of route. */
    void *route_user;
    /** Receives everything if route is NULL. May be freed when the listener has been adopted. */
    const dockline_upstream *upstream;
    /** NULL for the default, and then conn_size is 0. */
    const dockline_conn_options *conn;
    /** sizeof(dockline_conn_options) */
    size_t conn_size;
    /** enum dockline_service */
    int32_t service;
    /** 0 */
    uint32_t reserved;
    /**
     * The proxies in front of it, as in dockline_conn_options.trusted: each connection has to be
     * one of theirs, and begin with a header of the PROXY protocol, version 1 or 2; the client
     * that it names is the peer. Absent: no header is read.
     */
    dockline_str proxy_protocol;
} dockline_listener_options;

/** Two connected stream sockets to be joined, with what was read from them before. */
typedef struct dockline_pair {
    /** The client's connection. */
    int32_t downstream_fd;
    /** The daemon's connection. */
    int32_t upstream_fd;
    /** Bytes read from the client and not yet sent on, at most 1 MiB; copied. */
    const void *from_downstream;
    /** Bytes of from_downstream. */
    size_t from_downstream_len;
    /** Bytes read from the daemon and not yet sent on, at most 1 MiB; copied. */
    const void *from_upstream;
    /** Bytes of from_upstream. */
    size_t from_upstream_len;
    /** The name of the upstream in the record, in UTF-8; may be absent. */
    dockline_str name;
} dockline_pair;

/** Counters of an engine. All except the _now ones only grow. */
typedef struct dockline_engine_stats {
    /** Client connections accepted or adopted. */
    uint64_t accepted;
    /** Client connections open now. */
    uint64_t clients_now;
    /** Exchanges that ended or became tunnels. */
    uint64_t requests;
    /** Replies by the engine itself: errors, and what the host decided. */
    uint64_t own_replies;
    /** Tunnels opened. */
    uint64_t tunnels;
    /** Tunnels open now. */
    uint64_t tunnels_now;
    /** Tunnel bytes from clients that were delivered. */
    uint64_t tunnel_bytes_up;
    /** Tunnel bytes to clients that were delivered. */
    uint64_t tunnel_bytes_down;
    /** Connections made to upstreams. */
    uint64_t connects;
    /** Requests that used a kept upstream connection. */
    uint64_t reuses;
    /** Unused upstream connections kept now. */
    uint64_t pooled_now;
    /** Attempts to connect to an address of an upstream that failed. */
    uint64_t connect_failures;
    /** Times that accepting paused for lack of descriptors or memory. */
    uint64_t accept_pauses;
    /** Connections ended by a bug in dockline. */
    uint64_t panics;
} dockline_engine_stats;

/**
 * Makes an engine. It owns three descriptors from the start.
 *
 * @param options      NULL for the default, and then options_size is 0; copied
 * @param options_size sizeof(dockline_engine_options)
 * @param out          set on success; free it with dockline_engine_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_SYSTEM
 * @since 0.1
 */
dockline_status dockline_engine_new(const dockline_engine_options *options,
                                    size_t options_size,
                                    dockline_engine **out);

/**
 * Serves a listener from the next turn on. On success the descriptor belongs to the engine, which
 * makes it non-blocking and closes it; otherwise it stays with the host.
 *
 * @param engine       any thread may call this
 * @param fd           a listening stream socket
 * @param options      what is served; copied
 * @param options_size sizeof(dockline_listener_options)
 * @param out_listener set on success: a number for dockline_engine_close_listener; may be NULL
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_NOT_STREAM,
 *         _E_NOT_LISTENING, _E_SYSTEM, _E_POISONED; _E_STATE after dockline_engine_stop
 * @since 0.1
 */
dockline_status dockline_engine_adopt_listener(dockline_engine *engine,
                                               int32_t fd,
                                               const dockline_listener_options *options,
                                               size_t options_size,
                                               uint64_t *out_listener);

/**
 * Closes a listener at the next turn. Its connections are kept; the kernel refuses those that wait
 * in its backlog.
 *
 * @param engine   any thread may call this
 * @param listener from dockline_engine_adopt_listener
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED; _E_VALUE if there is no such
 *         listener
 * @since 0.1
 */
dockline_status dockline_engine_close_listener(dockline_engine *engine, uint64_t listener);

/**
 * Joins two connected sockets from the next turn on. On success both descriptors belong to the
 * engine, which makes them non-blocking and closes them; otherwise they stay with the host.
 *
 * @param engine    any thread may call this
 * @param pair      the sockets, and the bytes that were read from them already
 * @param pair_size sizeof(dockline_pair)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_NOT_STREAM, _E_SYSTEM,
 *         _E_POISONED; _E_LIMIT for too many bytes; _E_STATE after dockline_engine_stop
 * @since 0.1
 */
dockline_status dockline_engine_adopt_pair(dockline_engine *engine,
                                           const dockline_pair *pair,
                                           size_t pair_size);

/**
 * Runs one turn: waits for events and handles them. May return before timeout_ms without a visible
 * reason.
 *
 * @param engine     driven by no other thread
 * @param timeout_ms how long to wait at most; 0: not at all; DOCKLINE_NO_DEADLINE: as long as it
 *                   takes
 * @param out_state  set on success: DOCKLINE_ENGINE_RUNNING, _DRAINING or _DONE; may be NULL
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_PANIC, _E_POISONED;
 *         _E_SYSTEM if the kernel refuses to wait: free the engine
 * @since 0.1
 */
dockline_status dockline_engine_poll(dockline_engine *engine,
                                     uint64_t timeout_ms,
                                     int32_t *out_state);

/**
 * Runs turns until the engine was stopped and has drained.
 *
 * @param engine driven by no other thread
 * @return as dockline_engine_poll
 * @since 0.1
 */
dockline_status dockline_engine_run(dockline_engine *engine);

/**
 * Returns a descriptor that is readable when there is something to do. For a host with a loop of
 * its own, which calls dockline_engine_poll with 0 when the descriptor is readable or the time of
 * dockline_engine_timeout_ms has passed. Level-triggered; the host does not read or close it.
 *
 * @param engine any thread may call this
 * @param out_fd set on success; valid until the engine is freed
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_fd(const dockline_engine *engine, int32_t *out_fd);

/**
 * Returns how long such a host may wait. Call it after each dockline_engine_poll.
 *
 * @param engine         driven by no other thread
 * @param out_timeout_ms set on success: milliseconds, rounded up; DOCKLINE_NO_DEADLINE: until the
 *                       descriptor is readable
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_timeout_ms(const dockline_engine *engine, uint64_t *out_timeout_ms);

/**
 * Makes a waiting dockline_engine_poll return. A signal handler may call it; it may change errno.
 *
 * @param engine any thread may call this
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_SYSTEM, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_wake(const dockline_engine *engine);

/**
 * Stops gracefully: listeners and idle client connections are closed, running requests and tunnels
 * continue until they end or the time has passed. Then the state is DOCKLINE_ENGINE_DONE. A second
 * call shortens the time.
 *
 * @param engine   any thread may call this
 * @param drain_ms how long they may continue; DOCKLINE_NO_DEADLINE: without a limit
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_stop(const dockline_engine *engine, uint64_t drain_ms);

/**
 * Stops at once: everything is closed at the next turn.
 *
 * @param engine any thread may call this
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_kill(const dockline_engine *engine);

/**
 * Ends a tunnel at the next turn, by resets on both sides. Its record has DOCKLINE_CLOSE_KILLED.
 *
 * @param engine    any thread may call this
 * @param tunnel_id of the record of the exchange that opened it; another number does nothing
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_kill_tunnel(const dockline_engine *engine, uint64_t tunnel_id);

/**
 * Ends all that goes to an upstream, at the next turn: tunnels by resets on both sides; a request
 * by a 503 if its client has nothing of a response yet, otherwise the response is cut. The records
 * have DOCKLINE_CAUSE_KILLED. Requests that come later are not concerned.
 *
 * @param engine   any thread may call this
 * @param upstream may be freed afterwards
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_kill_upstream(const dockline_engine *engine,
                                              const dockline_upstream *upstream);

/**
 * Does the same to all that goes by the routes of a name.
 *
 * @param engine any thread may call this
 * @param name   as given to dockline_route_name, copied
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_kill_route(const dockline_engine *engine, dockline_str name);

/**
 * Returns the counters.
 *
 * @param engine   any thread may call this
 * @param out      set on success
 * @param out_size sizeof(dockline_engine_stats)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_stats_get(const dockline_engine *engine,
                                          dockline_engine_stats *out,
                                          size_t out_size);

/**
 * Frees an engine in any state, with everything that it owns: listeners, connections, tunnels.
 * They are not reported to the callbacks; stop the engine first for that. Inside its own callbacks
 * it does nothing.
 *
 * @param engine may be NULL
 * @since 0.1
 */
void dockline_engine_free(dockline_engine *engine);

/* ---- Routes ----
 *
 * Where requests go by host and path, looked up in a file that another process replaces when
 * containers come and go (docs/ROUTES.md).
 */

/** What a look at the file has found. */
enum dockline_routes_change {
    /** Nothing new, or it was not looked at, since that was done just before. */
    DOCKLINE_ROUTES_UNCHANGED = 0,
    /** Other routes, which hold from now on. */
    DOCKLINE_ROUTES_READ = 1,
    /**
     * The file cannot be read: dockline_routes_state_view says why. Returned once for each file, so
     * that it can be logged as it is. The routes are as before.
     */
    DOCKLINE_ROUTES_FAILED = 2,
};

/** What was found for a request. */
enum dockline_routes_result {
    /** A target, whose turn it is. */
    DOCKLINE_ROUTES_FOUND = 0,
    /** No route: reply with 404. */
    DOCKLINE_ROUTES_UNKNOWN = 1,
    /** A route without a live target: reply with 503. */
    DOCKLINE_ROUTES_NO_TARGET = 2,
    /** The file could not be read yet: reply with 503. */
    DOCKLINE_ROUTES_NOT_LOADED = 3,
};

/**
 * Routes by host and path, from the file that `dockline discover` replaces when they change. Make
 * one for each process that looks routes up, after fork(2).
 */
typedef struct dockline_routes dockline_routes;

/** Which file, and how often it is looked at. Text is copied. */
typedef struct dockline_routes_options {
    /** The path of the file. Required. The file need not exist yet. */
    dockline_str path;
    /** The file is looked at once in so many milliseconds at most. 0: 500. */
    uint64_t check_ms;
} dockline_routes_options;

/** Where the routes come from. */
typedef struct dockline_routes_state {
    /** Why the file cannot be read now, a line in English; absent if it can. */
    dockline_str problem;
    /** The number that the writer of the file has given to its routes. */
    uint64_t generation;
    /** How many routes there are. */
    uint64_t count;
    /** 1: the file could be read, now or before. 0: there are no routes. */
    int32_t loaded;
    /** Zero. */
    uint32_t reserved;
} dockline_routes_state;

/** Where a request goes. Text is borrowed until the next dockline_routes_check or _free. */
typedef struct dockline_routes_target {
    /** enum dockline_routes_result */
    int32_t result;
    /**
     * 1: the target gets the path without the prefix: what follows prefix_len bytes, behind a "/"
     * unless it begins with one; X-Forwarded-Prefix tells it what was removed. 0: the path is not
     * changed.
     */
    int32_t strip;
    /**
     * The address of the target: "192.0.2.7:8080"; an IPv6 address is in brackets. Absent without
     * one.
     */
    dockline_str upstream;
    /**
     * What the route is called, printable ASCII: its hosts, and its prefix unless that is "/".
     * Absent if the request has none.
     */
    dockline_str name;
    /** Bytes of the path that the route's prefix matches; 0 if it serves all paths. */
    uint64_t prefix_len;
    /**
     * The addresses of other live targets, in the order in which they are to be tried if the one
     * before cannot be reached; strip holds for them too. The array is valid until the next call.
     */
    const dockline_str *others;
    /** How many there are, at most 7. */
    size_t other_count;
} dockline_routes_target;

/**
 * Makes routes, of which there are none before the first dockline_routes_check.
 *
 * @param options      copied
 * @param options_size sizeof(dockline_routes_options)
 * @param out          set on success; free it with dockline_routes_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE; _E_VALUE for a path that is empty or contains NUL
 * @since 0.1
 */
dockline_status dockline_routes_new(const dockline_routes_options *options,
                                    size_t options_size,
                                    dockline_routes **out);

/**
 * Looks at the file, unless that was done just before, and reads it if it is another one than
 * then. To be called before each lookup: it makes one system call in check_ms while nothing
 * changes. What is read is a copy, so the file may be replaced at any time.
 *
 * @param routes     not in use by another call
 * @param now_ms     the time
 * @param out_change set on success: enum dockline_routes_change
 * @return DOCKLINE_OK, also if the file cannot be read; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE,
 *         _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_routes_check(dockline_routes *routes,
                                      uint64_t now_ms,
                                      int32_t *out_change);

/**
 * Returns where the routes come from.
 *
 * @param routes   not in use by another call
 * @param out      set on success; its text is borrowed until the next dockline_routes_check or
 *                 _free
 * @param out_size sizeof(dockline_routes_state)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_routes_state_view(dockline_routes *routes,
                                           dockline_routes_state *out,
                                           size_t out_size);

/**
 * Returns where a request goes. The live targets of a route take turns by their weights. Neither a
 * system call nor an allocation is made.
 *
 * @param routes   not in use by another call
 * @param host     the value of Host, as the client sent it; absent if there is none
 * @param path     the path, with or without a query
 * @param out      set on success
 * @param out_size sizeof(dockline_routes_target)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_routes_lookup(dockline_routes *routes,
                                       dockline_str host,
                                       dockline_str path,
                                       dockline_routes_target *out,
                                       size_t out_size);

/**
 * Frees routes.
 *
 * @param routes may be NULL
 * @since 0.1
 */
void dockline_routes_free(dockline_routes *routes);

#ifdef __cplusplus
}
#endif

#endif /* DOCKLINE_H */
