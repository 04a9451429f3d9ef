/* SPDX-License-Identifier: MIT
 *
 * dockline: the core of a proxy for the Docker Engine API, for C and C++.
 * Made from src/ffi by cbindgen; `cargo test --test abi` compares it. Do not edit.
 *
 * What it does. A proxy for Docker's API speaks HTTP/1.1 until attach, exec, /session or /grpc make the connection
 * a raw stream in both directions, with half-close, back-pressure and an end of its own on each side. There are
 * three ways in; take the highest that the host allows:
 *
 *     dockline_engine    the library owns sockets and loop: listeners, upstreams, HTTP, tunnels
 *     dockline_conn      the host owns sockets and clock; the library does the HTTP of one client connection
 *     dockline_relay     the host speaks HTTP, too; dockline_request_plan_make() and dockline_hijack_decide() tell
 *                        when a tunnel begins, and a relay joins the two connections until both directions have ended
 *
 * Relay and connection start no thread, open nothing but pipes, install no signal handler and keep no global state.
 * An engine starts threads only to look up host names of upstreams.
 *
 * An engine, in short:
 *
 *     dockline_upstream_options docker = { .address = "unix:///var/run/docker.sock", ... };
 *     dockline_upstream_new(&docker, sizeof docker, &upstream);
 *     dockline_engine_new(NULL, 0, &engine);                       after fork
 *     dockline_listener_options web = { .upstream = upstream };        or .route, to decide for each request
 *     dockline_engine_adopt_listener(engine, listening_socket, &web, sizeof web, NULL);
 *     dockline_engine_run(engine);                                 dockline_engine_stop() from any thread ends it
 *     dockline_engine_free(engine);
 *
 * A connection, in short; after every call that takes a time:
 *
 *     while (dockline_conn_next_event(conn, &event, sizeof event), event.kind != DOCKLINE_EVENT_NONE)
 *         ...                                                      connect, keep, close: as the event says
 *     dockline_conn_wants(conn, &interest, &deadline_ms);
 *     WRITE: dockline_conn_output_view, send, dockline_conn_output_sent      READ: recv, dockline_conn_feed
 *     after DOCKLINE_EVENT_TUNNEL: dockline_conn_tunnel_take, then a relay
 *
 * A relay, in short:
 *
 *     dockline_worker_new(NULL, 0, &worker);                       once a thread, after fork
 *     dockline_endpoint client = { .fd = c }, daemon = { .fd = d };   non-blocking stream sockets
 *     dockline_relay_new(worker, NULL, 0, &client, &daemon, sizeof client, now_ms(), &relay);
 *     dockline_relay_prefill(relay, DOCKLINE_SIDE_DOWNSTREAM, early, early_len);   what was read already
 *     for (ready = 0;; ready = wait_for(wants.interest, wants.deadline_ms)) {
 *         dockline_relay_pump(relay, ready, now_ms(), &wants, sizeof wants);
 *         if (wants.state == DOCKLINE_RELAY_DONE) break;           on YIELD: do not wait, pump again soon
 *     }
 *     dockline_relay_free(relay); close(c); close(d);
 *
 * examples/engine_server.c, conn_proxy.c and relay_server.c are whole programs.
 *
 * Threads. A handle is used by one thread at a time, and so are all relays of one worker. A second call
 * at the same time gets DOCKLINE_E_BUSY. Pure functions and upstreams may be used from anywhere, and so may most of
 * an engine: its functions say so.
 *
 * Ownership. _new makes, _free frees and accepts NULL. _view borrows. _adopt gives descriptors to the library on
 * success only. All other memory and descriptors that the host passes are borrowed: for the call, or, where the text
 * says so, until the relay is freed. Results are written on success only.
 *
 * Structs cross with their size: pass sizeof. All zero is the default everywhere. A program built
 * against an older header goes on working; one built against a newer header may use what this library
 * knows, and gets DOCKLINE_E_SIZE if it sets more.
 *
 * Errors. 0 is success, negative is a dockline_status. A connection that breaks is no error of a call:
 * it is an event, a close reason or an end in a record. Panics do not cross: the call returns DOCKLINE_E_PANIC, and the handle can only
 * be freed.
 *
 * Fork. Make workers and engines after fork(2); a child does not use its parent's.
 *
 * Time is uint64_t milliseconds on a monotonic clock of the host's; only differences count.
 */

#ifndef DOCKLINE_H
#define DOCKLINE_H

#include <stddef.h>
#include <stdint.h>

/**
 * The ABI that this header describes. Compare it with `dockline_abi_version()` at start-up: a library
 * with another number must not be used.
 */
#define DOCKLINE_ABI_VERSION 1

/**
 * No side.
 */
#define DOCKLINE_SIDE_NONE 0

/**
 * The side of the client.
 */
#define DOCKLINE_SIDE_DOWNSTREAM 1

/**
 * The side of the daemon.
 */
#define DOCKLINE_SIDE_UPSTREAM 2

/**
 * HTTP/1.0
 */
#define DOCKLINE_HTTP_10 10

/**
 * HTTP/1.1
 */
#define DOCKLINE_HTTP_11 11

/**
 * HTTP/2
 */
#define DOCKLINE_HTTP_20 20

/**
 * HTTP/3
 */
#define DOCKLINE_HTTP_30 30

/**
 * Request flag: the host offers CONNECT. Without it CONNECT is refused.
 */
#define DOCKLINE_ALLOW_CONNECT 1

/**
 * One message, one answer; no operation of the Docker Engine API.
 */
#define DOCKLINE_REQUEST_ORDINARY 0

/**
 * An operation of the Docker Engine API that follows something, or moves much: logs, events, wait, build, load, save, pull,
 * push, cp and the like. Either side may pause for as long as it wants: no time limit for the client's bytes nor for
 * the daemon's.
 */
#define DOCKLINE_REQUEST_STREAM 1

/**
 * It may turn into a tunnel: what the client sends behind it is held until the response head decides,
 * and the upstream connection is never used for another request.
 */
#define DOCKLINE_REQUEST_SWITCH 2

/**
 * Any other operation of the Docker Engine API: the daemon answers when it is done, on a busy machine after minutes. No time
 * limit for the daemon's bytes; the client is to send its request at once.
 */
#define DOCKLINE_REQUEST_COMMAND 3

/**
 * Response flag: there is a Content-Length.
 */
#define DOCKLINE_RESPONSE_HAS_LENGTH 1

/**
 * Response flag: there is a Transfer-Encoding.
 */
#define DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING 2

/**
 * An ordinary final response. Held client bytes must not reach the upstream any more.
 */
#define DOCKLINE_DECISION_MESSAGE 0

/**
 * 1xx: pass it on and wait for the next head.
 */
#define DOCKLINE_DECISION_INTERIM 1

/**
 * 101 that was asked for: from the blank line on, both directions are raw bytes.
 */
#define DOCKLINE_DECISION_TUNNEL_UPGRADE 2

/**
 * Docker's bare 200: the same.
 */
#define DOCKLINE_DECISION_TUNNEL_RAW 3

/**
 * 2xx in answer to CONNECT: the same.
 */
#define DOCKLINE_DECISION_TUNNEL_CONNECT 4

/**
 * A switch that nobody asked for, or no response at all: drop the upstream and answer 502.
 */
#define DOCKLINE_DECISION_REFUSE 5

/**
 * Log level: somebody has to act.
 */
#define DOCKLINE_LOG_ERROR 1

/**
 * Log level: it works, but less well.
 */
#define DOCKLINE_LOG_WARN 2

/**
 * Log level: worth knowing.
 */
#define DOCKLINE_LOG_INFO 3

/**
 * Callback result: not now.
 */
#define DOCKLINE_IO_AGAIN -1

/**
 * Callback result: the connection failed; no more I/O on this side.
 */
#define DOCKLINE_IO_RESET -2

/**
 * Relay flag: never splice.
 */
#define DOCKLINE_RELAY_NO_SPLICE 1

/**
 * Relay flag: do not set TCP_NODELAY and keepalive (30 s, 6 x 10 s) on TCP sockets.
 */
#define DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS 2

/**
 * The downstream may be read.
 */
#define DOCKLINE_DOWNSTREAM_READ 1

/**
 * The downstream may be written.
 */
#define DOCKLINE_DOWNSTREAM_WRITE 2

/**
 * The poller saw EPOLLRDHUP, EPOLLHUP or EPOLLERR on the downstream: a short read proves nothing then.
 * An edge-triggered host that cannot tell passes it with every READ. Never in interest.
 */
#define DOCKLINE_DOWNSTREAM_HUP 4

/**
 * The host knows that the downstream connection is dead. Never in interest.
 */
#define DOCKLINE_DOWNSTREAM_GONE 8

/**
 * The upstream may be read.
 */
#define DOCKLINE_UPSTREAM_READ 16

/**
 * The upstream may be written.
 */
#define DOCKLINE_UPSTREAM_WRITE 32

/**
 * As DOCKLINE_DOWNSTREAM_HUP.
 */
#define DOCKLINE_UPSTREAM_HUP 64

/**
 * As DOCKLINE_DOWNSTREAM_GONE.
 */
#define DOCKLINE_UPSTREAM_GONE 128

/**
 * Pump upon interest or deadline.
 */
#define DOCKLINE_RELAY_RUNNING 0

/**
 * The budget is spent: pump again soon, let others go first.
 */
#define DOCKLINE_RELAY_YIELD 1

/**
 * It is over: read the stats, free the relay, close both connections.
 */
#define DOCKLINE_RELAY_DONE 2

/**
 * No deadline.
 */
#define DOCKLINE_NO_DEADLINE UINT64_MAX

/**
 * The relay runs.
 */
#define DOCKLINE_CLOSE_NONE 0

/**
 * Both directions ended by themselves.
 */
#define DOCKLINE_CLOSE_EOF 1

/**
 * The daemon's end was passed on, and the client did not follow within linger_ms.
 */
#define DOCKLINE_CLOSE_LINGER 2

/**
 * No byte moved for idle_ms.
 */
#define DOCKLINE_CLOSE_IDLE 3

/**
 * The client's connection was reset, or stopped answering.
 */
#define DOCKLINE_CLOSE_DOWNSTREAM_RESET 4

/**
 * The daemon's connection was reset, or stopped answering.
 */
#define DOCKLINE_CLOSE_UPSTREAM_RESET 5

/**
 * The time that dockline_relay_drain gave is over.
 */
#define DOCKLINE_CLOSE_DRAIN 6

/**
 * dockline_relay_kill
 */
#define DOCKLINE_CLOSE_KILLED 7

/**
 * Client flag: the connection is TLS.
 */
#define DOCKLINE_CLIENT_TLS 1

/**
 * Client flag: it came over a Unix socket, and pid, uid and gid are known (SO_PEERCRED).
 */
#define DOCKLINE_CLIENT_UNIX 2

/**
 * The answer was delivered whole, or the tunnel was opened.
 */
#define DOCKLINE_END_COMPLETE 1

/**
 * It was answered here, as the host said.
 */
#define DOCKLINE_END_REPLIED 2

/**
 * The request could not be accepted: malformed, over a limit, or refused.
 */
#define DOCKLINE_END_BAD_REQUEST 3

/**
 * The client took too long with its request, or with taking the answer.
 */
#define DOCKLINE_END_CLIENT_TIMEOUT 4

/**
 * The client left.
 */
#define DOCKLINE_END_CLIENT_ABORTED 5

/**
 * The upstream could not be reached.
 */
#define DOCKLINE_END_UNREACHABLE 6

/**
 * The upstream's answer was malformed, or it ended or failed before one.
 */
#define DOCKLINE_END_BAD_RESPONSE 7

/**
 * The upstream took too long to answer, or to take the request.
 */
#define DOCKLINE_END_UPSTREAM_TIMEOUT 8

/**
 * The upstream's answer was cut; the client saw that.
 */
#define DOCKLINE_END_TRUNCATED 9

/**
 * The host ended it.
 */
#define DOCKLINE_END_STOPPED 10

/**
 * Exchange flag: it used a kept upstream connection. Set by the engine; a host that connects itself knows.
 */
#define DOCKLINE_EXCHANGE_REUSED 1

/**
 * Connection flag: Host has to be a host and a port. Without it anything goes: Docker clients send odd ones. Set it
 * if you route by Host.
 */
#define DOCKLINE_CONN_STRICT_HOST 1

/**
 * Connection flag: send CONNECT on. Without it CONNECT is refused and the connection closed (RFC 9931).
 */
#define DOCKLINE_CONN_ALLOW_CONNECT 2

/**
 * Connection flag: send X-Forwarded-For, -Proto and -Host.
 */
#define DOCKLINE_CONN_X_FORWARDED 4

/**
 * Connection flag: send Forwarded (RFC 7239).
 */
#define DOCKLINE_CONN_FORWARDED 8

/**
 * Connection flag: clients are proxies that are believed: what they say in these fields is kept. Without it, removed.
 */
#define DOCKLINE_CONN_TRUSTED 16

/**
 * Connection flag: answers after which the connection is kept say for how long (Keep-Alive: timeout=N), so that a client
 * does not send a request into a connection that is being closed. N is somewhat less than keep_alive_ms.
 */
#define DOCKLINE_CONN_KEEP_ALIVE_HINT 32

/**
 * The most that held_bytes of a connection which the host drives may be: 512 KiB.
 */
#define DOCKLINE_CONN_HELD_MAX 524288

/**
 * Half-close the downstream, then call dockline_conn_shut_done.
 */
#define DOCKLINE_DOWNSTREAM_SHUT 256

/**
 * Half-close the upstream, then call dockline_conn_shut_done.
 */
#define DOCKLINE_UPSTREAM_SHUT 4096

/**
 * There is nothing to do for now.
 */
#define DOCKLINE_EVENT_NONE 0

/**
 * A request was read (dockline_conn_request_view): find a connection for it and call
 * dockline_conn_upstream_ready, or dockline_conn_upstream_failed; or answer it with dockline_conn_reply.
 */
#define DOCKLINE_EVENT_NEED_UPSTREAM 1

/**
 * The upstream connection is not used any more: keep it for others if DOCKLINE_EVENT_KEEP is set, else close it.
 */
#define DOCKLINE_EVENT_RELEASE_UPSTREAM 2

/**
 * A request has been dealt with (dockline_conn_record_get). Comes before DOCKLINE_EVENT_TUNNEL, too.
 */
#define DOCKLINE_EVENT_EXCHANGE_ENDED 3

/**
 * From here on both connections carry raw bytes: dockline_conn_tunnel_take.
 */
#define DOCKLINE_EVENT_TUNNEL 4

/**
 * Close the client's connection, by a reset if DOCKLINE_EVENT_RESET is set, and free the handle.
 */
#define DOCKLINE_EVENT_CLOSED 5

/**
 * With NEED_UPSTREAM: a kept connection will do. Without it, one that is newly made: the request must not be sent
 * twice, and is not risked on a connection that its peer may be closing.
 */
#define DOCKLINE_EVENT_MAY_REUSE 1

/**
 * With NEED_UPSTREAM: the same request was sent before, on a kept connection that turned out to be dead.
 */
#define DOCKLINE_EVENT_AGAIN 2

/**
 * With RELEASE_UPSTREAM: the connection may serve other requests.
 */
#define DOCKLINE_EVENT_KEEP 4

/**
 * With CLOSED: a clean end would be taken for the end of the answer.
 */
#define DOCKLINE_EVENT_RESET 8

/**
 * No connection could be made: answered with 502.
 */
#define DOCKLINE_FAILED_UNREACHABLE 1

/**
 * The attempt took too long: 504.
 */
#define DOCKLINE_FAILED_TIMEOUT 2

/**
 * There is no descriptor or memory for one more connection: 503.
 */
#define DOCKLINE_FAILED_OVERLOADED 3

/**
 * Listener service: HTTP/1.1, request by request.
 */
#define DOCKLINE_SERVICE_HTTP 0

/**
 * Listener service: bytes; each connection is joined with one to the upstream, or reset when that cannot be reached.
 */
#define DOCKLINE_SERVICE_FORWARD 1

/**
 * The engine serves.
 */
#define DOCKLINE_ENGINE_RUNNING 0

/**
 * It was stopped, and finishes what it has begun.
 */
#define DOCKLINE_ENGINE_DRAINING 1

/**
 * Nothing is left to do.
 */
#define DOCKLINE_ENGINE_DONE 2

/**
 * One client connection as HTTP/1.1, and the upstream connections that serve it one after the other. The host has
 * the sockets, the clock, and the say about where a request goes.
 */
typedef struct dockline_conn dockline_conn;

/**
 * A loop that owns its sockets: it accepts, connects, speaks HTTP and relays tunnels. One thread at a time drives
 * it (dockline_engine_poll, _run, _timeout_ms); any thread may call the rest but dockline_engine_free. Make it after
 * fork(2).
 */
typedef struct dockline_engine dockline_engine;

/**
 * A tunnel: two byte streams joined, driven by the host.
 */
typedef struct dockline_relay dockline_relay;

/**
 * The decision about one request. It lives within the callback that gets it: dockline_listener_options.route.
 */
typedef struct dockline_route dockline_route;

/**
 * A server that requests or connections are sent on to. Any thread may use it, and any number of engines.
 */
typedef struct dockline_upstream dockline_upstream;

/**
 * What the relays of one thread share: a scratch buffer, pipes for bulk transfers, the log. Make one
 * for each thread that drives relays, after fork(2).
 */
typedef struct dockline_worker dockline_worker;

/**
 * 0, or a negative number: what went wrong. "Would block" is never a status.
 *
 * -1xx: the call was wrong, and nothing changed. -3xx: a limit. -4xx: the system. -9xx: a bug in
 * dockline.
 */
typedef int32_t dockline_status;

/**
 * What the decision needs to know of a request. Text is borrowed for the call.
 */
typedef struct dockline_request_facts {
  /**
   * The method, as sent.
   */
  const uint8_t *method;
  /**
   * Bytes of method.
   */
  size_t method_len;
  /**
   * The request target, as sent, with or without its query.
   */
  const uint8_t *target;
  /**
   * Bytes of target.
   */
  size_t target_len;
  /**
   * A path below which the daemon is served, such as "/docker"; NULL if it is served at the root.
   */
  const uint8_t *base;
  /**
   * Bytes of base.
   */
  size_t base_len;
  /**
   * The value of Upgrade, several fields joined by commas; NULL if there is none.
   */
  const uint8_t *upgrade;
  /**
   * Bytes of upgrade.
   */
  size_t upgrade_len;
  /**
   * The value of Connection, several fields joined by commas; NULL if there is none.
   */
  const uint8_t *connection;
  /**
   * Bytes of connection.
   */
  size_t connection_len;
  /**
   * What the client speaks: DOCKLINE_HTTP_*.
   */
  uint32_t version;
  /**
   * DOCKLINE_ALLOW_CONNECT, or 0.
   */
  uint32_t flags;
} dockline_request_facts;

/**
 * What to do with a request.
 */
typedef struct dockline_request_plan {
  /**
   * DOCKLINE_REQUEST_*
   */
  int32_t kind;
  /**
   * 1: send the client's Upgrade value and "Connection: Upgrade". 0: send neither.
   */
  int32_t send_upgrade;
  /**
   * 1: read the declared body whole, then send head and body at once.
   */
  int32_t whole_body_first;
  /**
   * 0, or the status to refuse the request with: 501 for an operation that takes the connection over,
   * asked for over HTTP/2 or 3; 405 for CONNECT (close the connection after it).
   */
  int32_t refuse_status;
  /**
   * 1: what the client sends behind the request may be input for a tunnel, even if no tunnel can come of it. Unless one
   * does, close the client's connection after the answer, or that input could run as the next request.
   */
  int32_t proposes_tunnel;
  /**
   * 1: the client may pause within the body of its request, which carries a build context, an image or an archive. Only
   * for DOCKLINE_REQUEST_STREAM; all other bodies are short, and come at once.
   */
  int32_t body_may_pause;
} dockline_request_plan;

/**
 * What the decision needs to know of a response head. Text is borrowed for the call.
 */
typedef struct dockline_response_facts {
  /**
   * The value of Content-Type; NULL if there is none.
   */
  const uint8_t *content_type;
  /**
   * Bytes of content_type.
   */
  size_t content_type_len;
  /**
   * The value of Upgrade; NULL if there is none.
   */
  const uint8_t *upgrade;
  /**
   * Bytes of upgrade.
   */
  size_t upgrade_len;
  /**
   * The status code.
   */
  uint32_t status;
  /**
   * DOCKLINE_RESPONSE_*
   */
  uint32_t flags;
} dockline_response_facts;

/**
 * Bounds and log of a worker. All zero is the default.
 */
typedef struct dockline_worker_options {
  /**
   * Called from within dockline_relay_pump with a DOCKLINE_LOG_* level and a text of len bytes, not
   * NUL-terminated, borrowed for the call. NULL: no log. It must not unwind or longjmp.
   */
  void (*log)(void *user, int32_t level, const uint8_t *text, size_t len);
  /**
   * The first argument of log.
   */
  void *log_user;
  /**
   * Pipes that may be lent at a time, two descriptors each. 0: 64.
   */
  uint32_t max_pipes;
  /**
   * Bytes asked for each pipe; the kernel may grant less. 0: 1 MiB.
   */
  uint32_t pipe_bytes;
} dockline_worker_options;

/**
 * How a relay behaves. All zero is the default.
 */
typedef struct dockline_relay_options {
  /**
   * End after so many milliseconds without a byte either way. 0: never.
   */
  uint64_t idle_ms;
  /**
   * Milliseconds to wait, without progress towards the upstream, for the client's end after the
   * daemon's was passed on. 0: 5000. UINT64_MAX: for ever.
   */
  uint64_t linger_ms;
  /**
   * About how many bytes one pump moves. 0: 1 MiB.
   */
  uint64_t budget_bytes;
  /**
   * DOCKLINE_RELAY_NO_SPLICE, DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS
   */
  uint32_t flags;
  /**
   * 0
   */
  uint32_t reserved;
} dockline_relay_options;

/**
 * One side of a relay: a descriptor, or callbacks for a host that alone knows how to read and write
 * (TLS). Callbacks are called from within dockline_relay_pump; they may not unwind, longjmp or call
 * into the same worker's relays.
 */
typedef struct dockline_endpoint {
  /**
   * A connected, non-blocking stream socket, borrowed: the host keeps it open until the relay is freed,
   * and closes it. With callbacks it is only asked whether the peer is gone, and told to close by a reset
   * when the stream was cut; -1 if there is none.
   */
  int32_t fd;
  /**
   * The first argument of the callbacks.
   */
  void *user;
  /**
   * Reads up to len bytes: their number, 0 at the end (FIN, close_notify), or DOCKLINE_IO_*.
   * NULL, as the other two: the library reads, writes and splices fd itself.
   */
  int64_t (*read)(void *user, uint8_t *buf, size_t len);
  /**
   * Writes up to len bytes: their number, or DOCKLINE_IO_*.
   */
  int64_t (*write)(void *user, const uint8_t *buf, size_t len);
  /**
   * Half-closes: 0, or DOCKLINE_IO_*. Called once; again only after DOCKLINE_IO_AGAIN.
   */
  int32_t (*shutdown_write)(void *user);
} dockline_endpoint;

/**
 * What a relay waits for.
 */
typedef struct dockline_relay_wants {
  /**
   * DOCKLINE_RELAY_RUNNING, _YIELD or _DONE
   */
  int32_t state;
  /**
   * READ and WRITE bits of both sides to wait for.
   */
  uint32_t interest;
  /**
   * Pump at this time of the host's clock at the latest, or DOCKLINE_NO_DEADLINE.
   */
  uint64_t deadline_ms;
} dockline_relay_wants;

/**
 * What a relay did. "Up" is from the client to the daemon.
 */
typedef struct dockline_relay_stats {
  /**
   * Bytes that the upstream took.
   */
  uint64_t bytes_up;
  /**
   * Bytes that the downstream took.
   */
  uint64_t bytes_down;
  /**
   * Bytes taken from the downstream, prefilled ones included.
   */
  uint64_t received_up;
  /**
   * Bytes taken from the upstream, prefilled ones included.
   */
  uint64_t received_down;
  /**
   * How many of bytes_up went through a pipe.
   */
  uint64_t spliced_up;
  /**
   * How many of bytes_down went through a pipe.
   */
  uint64_t spliced_down;
  /**
   * When a byte last moved, on the host's clock.
   */
  uint64_t last_activity_ms;
  /**
   * The side that ended first, by EOF or reset: DOCKLINE_SIDE_*.
   */
  int32_t first_closer;
  /**
   * DOCKLINE_CLOSE_*
   */
  int32_t close_reason;
  /**
   * The errno of the last failed read, write or shutdown; 0 if none failed.
   */
  int32_t error_number;
  /**
   * The sides to close without close_notify, because their streams were cut: DOCKLINE_SIDE_DOWNSTREAM
   * plus DOCKLINE_SIDE_UPSTREAM as bits. TCP descriptors have been told already (SO_LINGER).
   */
  int32_t abort_sides;
} dockline_relay_stats;

/**
 * One field line of a head. This struct never grows.
 */
typedef struct dockline_field {
  /**
   * The name, as sent; compare it without regard to case.
   */
  const uint8_t *name;
  /**
   * Bytes of name.
   */
  size_t name_len;
  /**
   * The value, without blanks around it.
   */
  const uint8_t *value;
  /**
   * Bytes of value.
   */
  size_t value_len;
} dockline_field;

/**
 * A request head. All of it is borrowed, for as long as the function that gave it says.
 */
typedef struct dockline_request {
  /**
   * The method, as sent.
   */
  const uint8_t *method;
  /**
   * Bytes of method.
   */
  size_t method_len;
  /**
   * The request target, as sent.
   */
  const uint8_t *target;
  /**
   * Bytes of target.
   */
  size_t target_len;
  /**
   * The field lines, in the order in which they came.
   */
  const struct dockline_field *fields;
  /**
   * How many there are.
   */
  size_t field_count;
  /**
   * DOCKLINE_HTTP_10 or DOCKLINE_HTTP_11
   */
  uint32_t version;
  /**
   * 0
   */
  uint32_t reserved;
} dockline_request;

/**
 * The bounds and habits of HTTP connections. All zero is the default. Times are totals: a byte now and then does
 * not prolong them, unless it says so; UINT64_MAX is as good as for ever.
 */
typedef struct dockline_conn_options {
  /**
   * The name of this hop in Via, a token; NULL adds no Via.
   */
  const uint8_t *via;
  /**
   * Bytes of via.
   */
  size_t via_len;
  /**
   * A path below which the daemon is served; NULL if at the root.
   */
  const uint8_t *base;
  /**
   * Bytes of base.
   */
  size_t base_len;
  /**
   * Bytes of a request head. 0: 64 KiB.
   */
  uint64_t request_head_bytes;
  /**
   * Bytes of a request line. 0: 16 KiB.
   */
  uint64_t request_line_bytes;
  /**
   * Bytes of a response head. 0: 64 KiB.
   */
  uint64_t response_head_bytes;
  /**
   * Bytes that a client may send behind a request that may become a tunnel, before the answer; also the longest
   * body that is read whole first. 0: 64 KiB. dockline_conn_new takes DOCKLINE_CONN_HELD_MAX at most: they have to fit
   * into dockline_relay_prefill, with what was read on top.
   */
  uint64_t held_bytes;
  /**
   * From the first byte of a request head to its end. 0: 15000.
   */
  uint64_t head_ms;
  /**
   * Without a byte of a request body from the client, or of an answer taken by it, while it is the client's turn; not
   * for streams (DOCKLINE_REQUEST_STREAM), but for requests of theirs without body_may_pause. 0: 300000.
   */
  uint64_t body_ms;
  /**
   * From the end of the request to the response head, and without a byte of the answer behind it; not for streams.
   * 0: for ever.
   */
  uint64_t response_ms;
  /**
   * Ends a stream (DOCKLINE_REQUEST_STREAM) that moved nothing in either direction for so long. 0: never.
   */
  uint64_t stream_idle_ms;
  /**
   * How long a client connection may be idle between requests. 0: 300000.
   */
  uint64_t keep_alive_ms;
  /**
   * How long a closing connection may still send, so that the last answer is not lost to a reset. 0: 2000.
   */
  uint64_t closing_ms;
  /**
   * Engine only. One attempt to connect to one address of an upstream. 0: 5000.
   */
  uint64_t connect_ms;
  /**
   * Engine only. How long an unused upstream connection is kept. 0: 60000.
   */
  uint64_t pool_ms;
  /**
   * Engine only. Ends a tunnel that carried nothing for so long. 0: never.
   */
  uint64_t tunnel_idle_ms;
  /**
   * Requests on one client connection; the last one is answered with Connection: close. 0: 100000.
   */
  uint32_t requests;
  /**
   * Field lines in one head. 0: 128.
   */
  uint32_t fields;
  /**
   * Engine only. Unused connections kept for each upstream. 0: 128.
   */
  uint32_t pool_size;
  /**
   * DOCKLINE_CONN_STRICT_HOST and so on.
   */
  uint32_t flags;
} dockline_conn_options;

/**
 * Who is at the other end of a client connection.
 */
typedef struct dockline_client {
  /**
   * Its address in network order, ip_len bytes of it.
   */
  uint8_t ip[16];
  /**
   * 4, 16, or 0 if there is no address.
   */
  uint32_t ip_len;
  /**
   * Its port.
   */
  uint32_t port;
  /**
   * DOCKLINE_CLIENT_TLS, DOCKLINE_CLIENT_UNIX
   */
  uint32_t flags;
  /**
   * The process that connected, for logs only: the number may be another's by now.
   */
  int32_t pid;
  /**
   * Its user.
   */
  uint32_t uid;
  /**
   * Its group.
   */
  uint32_t gid;
  /**
   * The name of the engine's listener.
   */
  const uint8_t *listener;
  /**
   * Bytes of listener.
   */
  size_t listener_len;
} dockline_client;

/**
 * What the host has to do.
 */
typedef struct dockline_conn_event {
  /**
   * DOCKLINE_EVENT_NONE and so on
   */
  int32_t kind;
  /**
   * DOCKLINE_EVENT_MAY_REUSE and so on
   */
  uint32_t flags;
  /**
   * With TUNNEL: DOCKLINE_DECISION_TUNNEL_*.
   */
  int32_t tunnel;
  /**
   * 0
   */
  uint32_t reserved;
} dockline_conn_event;

/**
 * An answer of the host's own. Everything is copied.
 */
typedef struct dockline_reply {
  /**
   * 200 to 599
   */
  uint32_t status;
  /**
   * 0
   */
  uint32_t reserved;
  /**
   * Content-Type. NULL: body is a message in UTF-8, and is sent as the Docker Engine API sends errors,
   * {"message": ...}: docker prints it.
   */
  const uint8_t *content_type;
  /**
   * Bytes of content_type.
   */
  size_t content_type_len;
  /**
   * The body; none with status 204, 205 and 304.
   */
  const uint8_t *body;
  /**
   * Bytes of body.
   */
  size_t body_len;
  /**
   * More fields. Connection, Content-Length, Content-Type, Transfer-Encoding and Upgrade are not taken.
   */
  const struct dockline_field *fields;
  /**
   * How many there are.
   */
  size_t field_count;
} dockline_reply;

/**
 * What a tunnel begins with: bytes that were received and not yet sent on. They belong to the handle.
 */
typedef struct dockline_conn_tunnel {
  /**
   * Of the client, for the upstream.
   */
  const uint8_t *from_downstream;
  /**
   * Bytes of from_downstream.
   */
  size_t from_downstream_len;
  /**
   * Of the upstream, for the client.
   */
  const uint8_t *from_upstream;
  /**
   * Bytes of from_upstream.
   */
  size_t from_upstream_len;
} dockline_conn_tunnel;

/**
 * A request that has been dealt with, or became a tunnel.
 */
typedef struct dockline_exchange_record {
  /**
   * The method; empty if the request could not be read.
   */
  const uint8_t *method;
  /**
   * Bytes of method.
   */
  size_t method_len;
  /**
   * The request target, as sent; empty if the request could not be read.
   */
  const uint8_t *target;
  /**
   * Bytes of target.
   */
  size_t target_len;
  /**
   * The name of the upstream that it went to, from the engine; empty if it went nowhere.
   */
  const uint8_t *upstream;
  /**
   * Bytes of upstream.
   */
  size_t upstream_len;
  /**
   * Body bytes from the client.
   */
  uint64_t bytes_up;
  /**
   * Body bytes to the client.
   */
  uint64_t bytes_down;
  /**
   * Microseconds from the first byte of the request to the end of the answer (of its head for a tunnel).
   */
  uint64_t duration_us;
  /**
   * Microseconds from the first byte of the request to the head of the answer; 0 without an answer.
   */
  uint64_t head_us;
  /**
   * The status of the answer; 0 if none was sent.
   */
  uint32_t status;
  /**
   * DOCKLINE_END_*
   */
  int32_t end;
  /**
   * DOCKLINE_DECISION_TUNNEL_*, or 0 if it became no tunnel.
   */
  int32_t tunnel;
  /**
   * DOCKLINE_EXCHANGE_REUSED
   */
  uint32_t flags;
} dockline_exchange_record;

/**
 * Where an upstream is, and how it is spoken with. Text is copied. An engine does not connect to listeners of its own.
 */
typedef struct dockline_upstream_options {
  /**
   * "unix:///PATH", "unix://@NAME" (in the abstract namespace), or "tcp://HOST:PORT", IPv6 addresses in
   * brackets. Required.
   */
  const uint8_t *address;
  /**
   * Bytes of address.
   */
  size_t address_len;
  /**
   * What records and logs call it, in UTF-8; NULL: the address.
   */
  const uint8_t *name;
  /**
   * Bytes of name.
   */
  size_t name_len;
  /**
   * Replaces the Host of requests; NULL sends the client's. A Docker daemon does not care, and refuses some that
   * its own clients send: set it, to "docker" for instance.
   */
  const uint8_t *host;
  /**
   * Bytes of host.
   */
  size_t host_len;
} dockline_upstream_options;

/**
 * A tunnel that ended.
 */
typedef struct dockline_tunnel_record {
  /**
   * The method of the request that opened it; empty for a connection that was no HTTP.
   */
  const uint8_t *method;
  /**
   * Bytes of method.
   */
  size_t method_len;
  /**
   * Its target, at most the first 255 bytes.
   */
  const uint8_t *target;
  /**
   * Bytes of target.
   */
  size_t target_len;
  /**
   * The name of the upstream, or of the pair.
   */
  const uint8_t *upstream;
  /**
   * Bytes of upstream.
   */
  size_t upstream_len;
  /**
   * Bytes that the upstream took.
   */
  uint64_t bytes_up;
  /**
   * Bytes that the downstream took.
   */
  uint64_t bytes_down;
  /**
   * Bytes taken from the downstream.
   */
  uint64_t received_up;
  /**
   * Bytes taken from the upstream.
   */
  uint64_t received_down;
  /**
   * How many microseconds it was open.
   */
  uint64_t duration_us;
  /**
   * DOCKLINE_DECISION_TUNNEL_*, or 0 for a connection that was no HTTP.
   */
  int32_t tunnel;
  /**
   * The side that ended first: DOCKLINE_SIDE_*.
   */
  int32_t first_closer;
  /**
   * DOCKLINE_CLOSE_*
   */
  int32_t close_reason;
  /**
   * 0
   */
  uint32_t reserved;
} dockline_tunnel_record;

/**
 * The bounds, habits and callbacks of an engine. All zero is the default. Callbacks are called on the thread that
 * drives the engine, within dockline_engine_poll and _run. They must not block, unwind or longjmp, and what
 * they are given is borrowed for the call. Within them dockline_engine_poll, _run and _timeout_ms get
 * DOCKLINE_E_BUSY; the other functions may be used, but for _free, which does nothing.
 */
typedef struct dockline_engine_options {
  /**
   * A request has been dealt with, or became a tunnel. NULL: nobody is told.
   */
  void (*exchange_ended)(void *user,
                         const struct dockline_client *client,
                         size_t client_size,
                         const struct dockline_exchange_record *record,
                         size_t record_size);
  /**
   * A tunnel ended. NULL: nobody is told.
   */
  void (*tunnel_ended)(void *user,
                       const struct dockline_client *client,
                       size_t client_size,
                       const struct dockline_tunnel_record *record,
                       size_t record_size);
  /**
   * Something out of the ordinary; as dockline_worker_options.log. NULL: no log.
   */
  void (*log)(void *user, int32_t level, const uint8_t *text, size_t len);
  /**
   * The first argument of the callbacks.
   */
  void *user;
  /**
   * Client connections at a time; at the bound, accepting waits. 0: a third of the descriptors that the process
   * may open (RLIMIT_NOFILE), less 64.
   */
  uint64_t connections;
  /**
   * As in dockline_relay_options, for tunnels. 0: 5000.
   */
  uint64_t linger_ms;
  /**
   * About how many bytes one turn moves for one tunnel. 0: 1 MiB.
   */
  uint64_t budget_bytes;
  /**
   * Connections accepted for each listener in one turn. 0: 64.
   */
  uint32_t accepts;
  /**
   * Pipes that may be lent at a time, two descriptors each. 0: 64.
   */
  uint32_t max_pipes;
  /**
   * Bytes asked for each pipe; the kernel may grant less. 0: 1 MiB.
   */
  uint32_t pipe_bytes;
  /**
   * DOCKLINE_RELAY_NO_SPLICE, DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS
   */
  uint32_t flags;
} dockline_engine_options;

/**
 * What is served on a listener. Everything is copied.
 */
typedef struct dockline_listener_options {
  /**
   * What records and logs call it, in UTF-8; may be NULL.
   */
  const uint8_t *name;
  /**
   * Bytes of name.
   */
  size_t name_len;
  /**
   * For HTTP: called once for each request, before a byte of it has left, on the thread that drives the engine. It
   * decides by dockline_route_upstream or dockline_route_reply before it returns. It must not block, unwind or
   * longjmp. It may be called until the engine is freed.
   */
  void (*route)(void *user, struct dockline_route *route);
  /**
   * The first argument of route.
   */
  void *route_user;
  /**
   * Where everything goes, if route is NULL. May be freed when the listener is adopted.
   */
  const struct dockline_upstream *upstream;
  /**
   * NULL for the default, and then conn_size is 0.
   */
  const struct dockline_conn_options *conn;
  /**
   * sizeof(dockline_conn_options)
   */
  size_t conn_size;
  /**
   * DOCKLINE_SERVICE_HTTP or DOCKLINE_SERVICE_FORWARD
   */
  int32_t service;
  /**
   * 0
   */
  uint32_t reserved;
} dockline_listener_options;

/**
 * Two connected stream sockets to be joined, with what was read from each before.
 */
typedef struct dockline_pair {
  /**
   * The client's connection.
   */
  int32_t downstream_fd;
  /**
   * The daemon's connection.
   */
  int32_t upstream_fd;
  /**
   * Bytes read from the client and not yet sent on, at most 1 MiB; copied.
   */
  const uint8_t *from_downstream;
  /**
   * Bytes of from_downstream.
   */
  size_t from_downstream_len;
  /**
   * Bytes read from the daemon and not yet sent on, at most 1 MiB; copied.
   */
  const uint8_t *from_upstream;
  /**
   * Bytes of from_upstream.
   */
  size_t from_upstream_len;
  /**
   * What the record calls the upstream, in UTF-8; may be NULL.
   */
  const uint8_t *name;
  /**
   * Bytes of name.
   */
  size_t name_len;
} dockline_pair;

/**
 * Counters of an engine. All but the _now ones only grow.
 */
typedef struct dockline_engine_stats {
  /**
   * Client connections accepted or adopted.
   */
  uint64_t accepted;
  /**
   * Client connections open now.
   */
  uint64_t clients_now;
  /**
   * Requests that have been dealt with, or became tunnels.
   */
  uint64_t requests;
  /**
   * Requests answered by the engine itself: errors, and replies of the host.
   */
  uint64_t own_replies;
  /**
   * Tunnels opened.
   */
  uint64_t tunnels;
  /**
   * Tunnels open now.
   */
  uint64_t tunnels_now;
  /**
   * Tunnel bytes from clients that were delivered.
   */
  uint64_t tunnel_bytes_up;
  /**
   * Tunnel bytes to clients that were delivered.
   */
  uint64_t tunnel_bytes_down;
  /**
   * Connections made to upstreams.
   */
  uint64_t connects;
  /**
   * Requests that used a kept upstream connection.
   */
  uint64_t reuses;
  /**
   * Unused upstream connections kept now.
   */
  uint64_t pooled_now;
  /**
   * Attempts to connect to an address of an upstream that failed.
   */
  uint64_t connect_failures;
  /**
   * Times that accepting had to pause for want of descriptors or memory.
   */
  uint64_t accept_pauses;
  /**
   * Connections ended by a bug in dockline.
   */
  uint64_t panics;
} dockline_engine_stats;

/**
 * Done.
 */
#define DOCKLINE_OK 0

/**
 * A pointer that may not be NULL is NULL.
 */
#define DOCKLINE_E_NULL -100

/**
 * A struct is smaller than its first version, or larger than this library knows and not zero there.
 */
#define DOCKLINE_E_SIZE -101

/**
 * An argument or a field has a value that means nothing.
 */
#define DOCKLINE_E_VALUE -102

/**
 * The call is not allowed at this point.
 */
#define DOCKLINE_E_STATE -103

/**
 * The handle, or its worker, is in use: by a callback's caller or by another thread.
 */
#define DOCKLINE_E_BUSY -104

/**
 * The pointer is not a handle of this type.
 */
#define DOCKLINE_E_HANDLE -105

/**
 * The descriptor is in blocking mode; set O_NONBLOCK first.
 */
#define DOCKLINE_E_BLOCKING -106

/**
 * The descriptor is not a stream socket.
 */
#define DOCKLINE_E_NOT_STREAM -107

/**
 * The socket does not listen.
 */
#define DOCKLINE_E_NOT_LISTENING -108

/**
 * More than the library takes.
 */
#define DOCKLINE_E_LIMIT -300

/**
 * A system call failed.
 */
#define DOCKLINE_E_SYSTEM -400

/**
 * The library failed inside this call: a bug. The handle is poisoned; free it.
 */
#define DOCKLINE_E_PANIC -900

/**
 * An earlier call on this handle failed with DOCKLINE_E_PANIC; it can only be freed.
 */
#define DOCKLINE_E_POISONED -901

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI of the library that is loaded.
 *
 * @return compare with DOCKLINE_ABI_VERSION
 * @since 0.1
 */
uint32_t dockline_abi_version(void);

/**
 * The name and version of the library that is loaded.
 *
 * @return a static string, such as "dockline 0.1.0"
 * @since 0.1
 */
const char *dockline_version_string(void);

/**
 * The identifier of a status, for logs.
 *
 * @return a static string, such as "DOCKLINE_E_NULL"; "DOCKLINE_E_UNKNOWN" for a number without a name
 * @since 0.1
 */
const char *dockline_status_name(dockline_status status);

/**
 * What a status means, in English, without a final dot.
 *
 * @return a static string
 * @since 0.1
 */
const char *dockline_status_text(dockline_status status);

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
dockline_status dockline_request_plan_make(const struct dockline_request_facts *facts,
                                           size_t facts_size,
                                           struct dockline_request_plan *out,
                                           size_t out_size);

/**
 * Decides what a response head means for the connection. Pure: any thread, no state.
 *
 * @param request       the request as the client sent it, which was sent on as its plan says
 * @param request_size  sizeof(dockline_request_facts)
 * @param response      the response head as the upstream sent it
 * @param response_size sizeof(dockline_response_facts)
 * @param out_decision  set on success: DOCKLINE_DECISION_*
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_hijack_decide(const struct dockline_request_facts *request,
                                       size_t request_size,
                                       const struct dockline_response_facts *response,
                                       size_t response_size,
                                       int32_t *out_decision);

/**
 * Makes a worker. It owns no descriptor until a transfer turns out to be long.
 *
 * Whether the process ignores SIGPIPE is looked up now. If it does not, splicing keeps the signal back
 * for the thread, at the cost of some system calls for each pump.
 *
 * @param options      NULL for the default, and then options_size is 0
 * @param options_size sizeof(dockline_worker_options)
 * @param out          set on success; free it with dockline_worker_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE
 * @since 0.1
 */
dockline_status dockline_worker_new(const struct dockline_worker_options *options,
                                    size_t options_size,
                                    struct dockline_worker **out);

/**
 * Frees a worker. Relays made from it stay valid; what they share goes with the last of them.
 *
 * @param worker may be NULL
 * @since 0.1
 */
void dockline_worker_free(struct dockline_worker *worker);

/**
 * The word for a close reason, for logs: "none", "eof", "linger", "idle", "downstream-reset",
 * "upstream-reset", "drain", "killed".
 *
 * @param reason DOCKLINE_CLOSE_*
 * @return a static string; "unknown" for another number
 * @since 0.1
 */
const char *dockline_close_reason_name(int32_t reason);

/**
 * Makes a relay. It moves nothing before the first pump.
 *
 * @param worker        what it shares with the thread's other relays; it may be freed before the relay
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
dockline_status dockline_relay_new(struct dockline_worker *worker,
                                   const struct dockline_relay_options *options,
                                   size_t options_size,
                                   const struct dockline_endpoint *downstream,
                                   const struct dockline_endpoint *upstream,
                                   size_t endpoint_size,
                                   uint64_t now_ms,
                                   struct dockline_relay **out);

/**
 * Hands over bytes that the host has already read from a side. They are copied, and delivered first.
 *
 * @param relay     before its first pump
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM: where they came from
 * @param data      len readable bytes; may be NULL if len is 0
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE after the first
 *         pump; _E_LIMIT above 1 MiB in all on a side, nothing was taken then
 * @since 0.1
 */
dockline_status dockline_relay_prefill(struct dockline_relay *relay,
                                       int32_t from_side,
                                       const uint8_t *data,
                                       size_t len);

/**
 * Moves what can be moved, both ways. May be called at any time, spuriously.
 *
 * Both sides count as ready at first. Readiness is remembered until a read or write proves otherwise,
 * so an edge-triggered host passes each event once, and a level-triggered host waits for interest.
 *
 * @param relay    not in use by another call
 * @param ready    what the host saw since the last pump: DOCKLINE_DOWNSTREAM_*, DOCKLINE_UPSTREAM_*
 * @param now_ms   the host's monotonic clock in milliseconds
 * @param out      set on success
 * @param out_size sizeof(dockline_relay_wants)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_PANIC, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_pump(struct dockline_relay *relay,
                                    uint32_t ready,
                                    uint64_t now_ms,
                                    struct dockline_relay_wants *out,
                                    size_t out_size);

/**
 * Lets the relay live until at_ms, then ends it with DOCKLINE_CLOSE_DRAIN. An earlier limit stays. The
 * next pump tells the new deadline.
 *
 * @param relay not in use by another call
 * @param at_ms a time of the host's clock; one that has passed ends it at the next pump
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_drain(struct dockline_relay *relay,
                                     uint64_t at_ms);

/**
 * Ends the relay with DOCKLINE_CLOSE_KILLED at the next pump.
 *
 * @param relay not in use by another call
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_kill(struct dockline_relay *relay);

/**
 * Tells what the relay did so far.
 *
 * @param relay    not in use by another call
 * @param out      set on success
 * @param out_size sizeof(dockline_relay_stats)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_relay_stats_get(const struct dockline_relay *relay,
                                         struct dockline_relay_stats *out,
                                         size_t out_size);

/**
 * Frees a relay in any state. Calls nothing back and closes no descriptor of the host's. Inside a
 * callback of the same relay it does nothing: free it after the pump.
 *
 * @param relay may be NULL
 * @since 0.1
 */
void dockline_relay_free(struct dockline_relay *relay);

/**
 * The word for the end of an exchange, for logs: "complete", "replied", "bad-request", "client-timeout",
 * "client-aborted", "unreachable", "bad-response", "upstream-timeout", "truncated", "stopped".
 *
 * @param end DOCKLINE_END_*
 * @return a static string; "unknown" for another number
 * @since 0.1
 */
const char *dockline_exchange_end_name(int32_t end);

/**
 * Looks a field of a request up by its name, without regard to case. Pure: any thread, no state.
 *
 * @param request      as the library gave it, and as long as that is good
 * @param request_size sizeof(dockline_request)
 * @param name         name_len bytes
 * @param nth          0 for the first line of this name, 1 for the second, and so on
 * @param out_value    set on success: borrowed as the request is; NULL if there is no such line
 * @param out_len      set on success: bytes of the value
 * @return DOCKLINE_OK, also if there is no such line; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_request_field(const struct dockline_request *request,
                                       size_t request_size,
                                       const uint8_t *name,
                                       size_t name_len,
                                       size_t nth,
                                       const uint8_t **out_value,
                                       size_t *out_len);

/**
 * Makes a connection of a client that was just accepted.
 *
 * @param options      NULL for the default, and then options_size is 0; copied
 * @param options_size sizeof(dockline_conn_options)
 * @param client       what is told about the client, if it is: ip, ip_len and DOCKLINE_CLIENT_TLS. NULL, and then
 *                     client_size is 0: a client without an address
 * @param client_size  sizeof(dockline_client)
 * @param now_ms       the host's monotonic clock in milliseconds
 * @param out          set on success; free it with dockline_conn_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
 * @since 0.1
 */
dockline_status dockline_conn_new(const struct dockline_conn_options *options,
                                  size_t options_size,
                                  const struct dockline_client *client,
                                  size_t client_size,
                                  uint64_t now_ms,
                                  struct dockline_conn **out);

/**
 * Gives it bytes that came from a side. All of them are taken.
 *
 * @param conn   not in use by another call
 * @param side   where they came from: DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param data   len readable bytes; may be NULL if len is 0
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC; _E_STATE if the side is
 *         not to be read now (dockline_conn_wants): nothing was taken
 * @since 0.1
 */
dockline_status dockline_conn_feed(struct dockline_conn *conn,
                                   int32_t side,
                                   const uint8_t *data,
                                   size_t len,
                                   uint64_t now_ms);

/**
 * Notes that a side sends no more: its stream ended. A client's TLS stream that ended without its close_notify counts,
 * since a request tells by itself whether it is whole; an upstream's does not.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_feed_eof(struct dockline_conn *conn,
                                       int32_t side,
                                       uint64_t now_ms);

/**
 * Notes that the connection of a side failed: a reset, or the end of an upstream's TLS stream without its close_notify.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_feed_error(struct dockline_conn *conn,
                                         int32_t side,
                                         uint64_t now_ms);

/**
 * Shows the bytes that wait to be sent to a side. They stay until dockline_conn_output_sent.
 *
 * @param conn     not in use by another call
 * @param side     DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param out_data set on success; borrowed until the next call on conn that takes a time
 * @param out_len  set on success: bytes of it, perhaps 0
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_output_view(const struct dockline_conn *conn,
                                          int32_t side,
                                          const uint8_t **out_data,
                                          size_t *out_len);

/**
 * Says that a side took bytes of its output.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param len    how many; at most what dockline_conn_output_view showed
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_output_sent(struct dockline_conn *conn,
                                          int32_t side,
                                          size_t len,
                                          uint64_t now_ms);

/**
 * Says that a side will never take another byte (EPIPE). What the upstream has still to say is worth waiting for: go on
 * reading it.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_output_refused(struct dockline_conn *conn,
                                             int32_t side,
                                             uint64_t now_ms);

/**
 * Says that a side was half-closed, as DOCKLINE_DOWNSTREAM_SHUT or DOCKLINE_UPSTREAM_SHUT asked.
 *
 * @param conn   not in use by another call
 * @param side   DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_shut_done(struct dockline_conn *conn,
                                        int32_t side,
                                        uint64_t now_ms);

/**
 * Tells what to wait for or to do on both sides, when there are no more events.
 *
 * @param conn            not in use by another call
 * @param out_interest    set on success: READ (then dockline_conn_feed), WRITE (dockline_conn_output_view) and SHUT bits
 *                        of both sides, DOCKLINE_DOWNSTREAM_* and DOCKLINE_UPSTREAM_*
 * @param out_deadline_ms set on success: call dockline_conn_handle_timeout at this time of the host's clock, or
 *                        DOCKLINE_NO_DEADLINE
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_wants(const struct dockline_conn *conn,
                                    uint32_t *out_interest,
                                    uint64_t *out_deadline_ms);

/**
 * Acts on the deadline, if it has passed.
 *
 * @param conn   not in use by another call
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_handle_timeout(struct dockline_conn *conn,
                                             uint64_t now_ms);

/**
 * Takes the next thing to do. Call it after every call that takes a time, until it says DOCKLINE_EVENT_NONE.
 *
 * @param conn     not in use by another call
 * @param out      set on success
 * @param out_size sizeof(dockline_conn_event)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_next_event(struct dockline_conn *conn,
                                         struct dockline_conn_event *out,
                                         size_t out_size);

/**
 * Ends the connection as soon as the present request, if there is one, is answered.
 *
 * @param conn   not in use by another call
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_drain(struct dockline_conn *conn,
                                    uint64_t now_ms);

/**
 * Ends the connection now. The events tell what to close.
 *
 * @param conn   not in use by another call
 * @param now_ms the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_kill(struct dockline_conn *conn,
                                   uint64_t now_ms);

/**
 * Frees a connection in any state. Closes nothing: the sockets are the host's.
 *
 * @param conn may be NULL
 * @since 0.1
 */
void dockline_conn_free(struct dockline_conn *conn);

/**
 * Shows the request in progress.
 *
 * @param conn     not in use by another call
 * @param out      set on success; what it points to is borrowed until the next call on conn that takes a time
 * @param out_size sizeof(dockline_request)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE if there is none
 * @since 0.1
 */
dockline_status dockline_conn_request_view(const struct dockline_conn *conn,
                                           struct dockline_request *out,
                                           size_t out_size);

/**
 * Says that there is a connection for the request, which is sent on it.
 *
 * @param conn     not in use by another call
 * @param host     replaces the Host of the request; NULL sends the client's
 * @param host_len bytes of host
 * @param reused   1 if the connection has served before, 0 if it is new
 * @param now_ms   the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC; _E_STATE if no
 *         DOCKLINE_EVENT_NEED_UPSTREAM waits for an answer, perhaps not any more: the connection stays the host's
 * @since 0.1
 */
dockline_status dockline_conn_upstream_ready(struct dockline_conn *conn,
                                             const uint8_t *host,
                                             size_t host_len,
                                             int32_t reused,
                                             uint64_t now_ms);

/**
 * Says that there is no connection for the request. The client gets an answer that says so.
 *
 * @param conn    not in use by another call
 * @param failure DOCKLINE_FAILED_UNREACHABLE, DOCKLINE_FAILED_TIMEOUT or DOCKLINE_FAILED_OVERLOADED
 * @param now_ms  the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC; _E_STATE as for
 *         dockline_conn_upstream_ready
 * @since 0.1
 */
dockline_status dockline_conn_upstream_failed(struct dockline_conn *conn,
                                              int32_t failure,
                                              uint64_t now_ms);

/**
 * Answers the request here.
 *
 * @param conn       not in use by another call
 * @param reply      the answer, copied
 * @param reply_size sizeof(dockline_reply)
 * @param now_ms     the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC; _E_STATE as for
 *         dockline_conn_upstream_ready
 * @since 0.1
 */
dockline_status dockline_conn_reply(struct dockline_conn *conn,
                                    const struct dockline_reply *reply,
                                    size_t reply_size,
                                    uint64_t now_ms);

/**
 * Tells how many bytes may be moved from a side to the other without this handle, by splice(2) for instance: the rest of
 * a body that needs no new framing.
 *
 * @param conn      not in use by another call
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param out_len   set on success; UINT64_MAX: until the connection ends; 0 as long as bytes that come before
 *                  them are here
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_conn_passthrough(const struct dockline_conn *conn,
                                          int32_t from_side,
                                          uint64_t *out_len);

/**
 * Counts bytes that were received past this handle and wait for the other side, in a pipe for example: from now on it is
 * that side's turn. dockline_conn_passed follows when they are sent. A host that keeps none waiting need not call it.
 *
 * @param conn      not in use by another call
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param len       how many; at most what dockline_conn_passthrough told
 * @param now_ms    the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_offered(struct dockline_conn *conn,
                                      int32_t from_side,
                                      uint64_t len,
                                      uint64_t now_ms);

/**
 * Counts bytes that were moved past this handle: sent to the other side, that is.
 *
 * @param conn      not in use by another call
 * @param from_side DOCKLINE_SIDE_DOWNSTREAM or DOCKLINE_SIDE_UPSTREAM
 * @param len       how many; at most what dockline_conn_passthrough told, and what was offered
 * @param now_ms    the host's clock
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_STATE, _E_HANDLE, _E_BUSY, _E_POISONED, _E_PANIC
 * @since 0.1
 */
dockline_status dockline_conn_passed(struct dockline_conn *conn,
                                     int32_t from_side,
                                     uint64_t len,
                                     uint64_t now_ms);

/**
 * Ends HTTP after DOCKLINE_EVENT_TUNNEL: hand both connections and these bytes to a relay (dockline_relay_new, then
 * dockline_relay_prefill) or to an engine (dockline_engine_adopt_pair), then free the handle. Only this function,
 * dockline_conn_record_get and dockline_conn_free may be called from then on.
 *
 * @param conn     not in use by another call
 * @param out      set on success; what it points to is borrowed until conn is freed
 * @param out_size sizeof(dockline_conn_tunnel)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE before that event
 * @since 0.1
 */
dockline_status dockline_conn_tunnel_take(struct dockline_conn *conn,
                                          struct dockline_conn_tunnel *out,
                                          size_t out_size);

/**
 * Tells what became of the exchange whose end was told last, by DOCKLINE_EVENT_EXCHANGE_ENDED.
 *
 * @param conn     not in use by another call
 * @param out      set on success; what it points to is borrowed until the next dockline_conn_next_event
 * @param out_size sizeof(dockline_exchange_record)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED; _E_STATE before the first
 * @since 0.1
 */
dockline_status dockline_conn_record_get(const struct dockline_conn *conn,
                                         struct dockline_exchange_record *out,
                                         size_t out_size);

/**
 * Makes an upstream. Nothing is connected before there is a request for it.
 *
 * @param options      copied
 * @param options_size sizeof(dockline_upstream_options)
 * @param out          set on success; free it with dockline_upstream_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE; _E_VALUE, for an address of another form, too
 * @since 0.1
 */
dockline_status dockline_upstream_new(const struct dockline_upstream_options *options,
                                      size_t options_size,
                                      struct dockline_upstream **out);

/**
 * Adds an address that is tried when those before it do not answer. Before the upstream is used.
 *
 * @param upstream    as dockline_upstream_new made it
 * @param address     as in dockline_upstream_options, copied
 * @param address_len bytes of address
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED; _E_STATE if a listener or a request
 *         has the upstream
 * @since 0.1
 */
dockline_status dockline_upstream_add_address(struct dockline_upstream *upstream,
                                              const uint8_t *address,
                                              size_t address_len);

/**
 * Frees an upstream. Engines that use it go on doing so.
 *
 * @param upstream may be NULL
 * @since 0.1
 */
void dockline_upstream_free(struct dockline_upstream *upstream);

/**
 * Tells who asks.
 *
 * @param route    within its callback
 * @param out      set on success; what it points to is borrowed until the callback returns
 * @param out_size sizeof(dockline_client)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_route_client(const struct dockline_route *route,
                                      struct dockline_client *out,
                                      size_t out_size);

/**
 * Shows what is asked for.
 *
 * @param route    within its callback
 * @param out      set on success; what it points to is borrowed until the callback returns
 * @param out_size sizeof(dockline_request)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_route_request(const struct dockline_route *route,
                                       struct dockline_request *out,
                                       size_t out_size);

/**
 * Decides that the request is sent to an upstream. The last decision counts; without one the client gets a 500.
 *
 * @param route    within its callback
 * @param upstream may be freed from now on
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_route_upstream(struct dockline_route *route,
                                        const struct dockline_upstream *upstream);

/**
 * Decides that the request is answered here. The last decision counts.
 *
 * @param route      within its callback
 * @param reply      the answer, copied
 * @param reply_size sizeof(dockline_reply)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_route_reply(struct dockline_route *route,
                                     const struct dockline_reply *reply,
                                     size_t reply_size);

/**
 * Makes an engine. It owns three descriptors from the start.
 *
 * @param options      NULL for the default, and then options_size is 0; copied
 * @param options_size sizeof(dockline_engine_options)
 * @param out          set on success; free it with dockline_engine_free
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_SYSTEM
 * @since 0.1
 */
dockline_status dockline_engine_new(const struct dockline_engine_options *options,
                                    size_t options_size,
                                    struct dockline_engine **out);

/**
 * Serves a listener from the next turn on. On success the descriptor belongs to the engine, which makes it
 * non-blocking and closes it; otherwise it stays the host's.
 *
 * @param engine       any thread may call this
 * @param fd           a stream socket that listens
 * @param options      what is served; copied
 * @param options_size sizeof(dockline_listener_options)
 * @param out_listener set on success: a number for dockline_engine_close_listener; may be NULL
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_NOT_STREAM, _E_NOT_LISTENING, _E_SYSTEM,
 *         _E_POISONED; _E_STATE after dockline_engine_stop
 * @since 0.1
 */
dockline_status dockline_engine_adopt_listener(struct dockline_engine *engine,
                                               int32_t fd,
                                               const struct dockline_listener_options *options,
                                               size_t options_size,
                                               uint64_t *out_listener);

/**
 * Closes a listener at the next turn. Its connections live on; what waits in its backlog is refused by the kernel.
 *
 * @param engine   any thread may call this
 * @param listener as dockline_engine_adopt_listener said
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED; _E_VALUE if there is no such listener
 * @since 0.1
 */
dockline_status dockline_engine_close_listener(struct dockline_engine *engine,
                                               uint64_t listener);

/**
 * Joins two connected sockets from the next turn on. On success both descriptors belong to the engine, which makes
 * them non-blocking and closes them; otherwise they stay the host's.
 *
 * @param engine    any thread may call this
 * @param pair      the sockets, and the bytes that come before what is still to be read
 * @param pair_size sizeof(dockline_pair)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE, _E_HANDLE, _E_NOT_STREAM, _E_SYSTEM, _E_POISONED;
 *         _E_LIMIT for too many bytes; _E_STATE after dockline_engine_stop
 * @since 0.1
 */
dockline_status dockline_engine_adopt_pair(struct dockline_engine *engine,
                                           const struct dockline_pair *pair,
                                           size_t pair_size);

/**
 * One turn: waits for events and deals with them. It may return sooner than timeout_ms, for no reason to be seen.
 *
 * @param engine     driven by no other thread
 * @param timeout_ms how long to wait at most; 0: not at all; DOCKLINE_NO_DEADLINE: as long as it takes
 * @param out_state  set on success: DOCKLINE_ENGINE_RUNNING, _DRAINING or _DONE; may be NULL
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_PANIC, _E_POISONED; _E_SYSTEM if the kernel
 *         refuses to wait: free the engine
 * @since 0.1
 */
dockline_status dockline_engine_poll(struct dockline_engine *engine,
                                     uint64_t timeout_ms,
                                     int32_t *out_state);

/**
 * Turns until the engine is stopped and has drained.
 *
 * @param engine driven by no other thread
 * @return as dockline_engine_poll
 * @since 0.1
 */
dockline_status dockline_engine_run(struct dockline_engine *engine);

/**
 * The descriptor that is readable when there is something to do: for a host that has a loop of its own, and calls
 * dockline_engine_poll with 0 when it is or when the time is over. Level-triggered; the host does not read or close
 * it.
 *
 * @param engine any thread may call this
 * @param out_fd set on success; valid until the engine is freed
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_fd(const struct dockline_engine *engine,
                                   int32_t *out_fd);

/**
 * How long such a host may wait. Ask after each dockline_engine_poll.
 *
 * @param engine         driven by no other thread
 * @param out_timeout_ms set on success: milliseconds, rounded up; DOCKLINE_NO_DEADLINE: until the descriptor is
 *                       readable
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_BUSY, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_timeout_ms(const struct dockline_engine *engine,
                                           uint64_t *out_timeout_ms);

/**
 * Makes a waiting dockline_engine_poll return. A signal handler may call it; it may change errno.
 *
 * @param engine any thread may call this
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_SYSTEM, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_wake(const struct dockline_engine *engine);

/**
 * Stops with patience: listeners are closed, idle client connections too, running requests and tunnels go on until
 * they end or the time is over. Then the state is DOCKLINE_ENGINE_DONE. A second call shortens the time.
 *
 * @param engine   any thread may call this
 * @param drain_ms how long they may go on; DOCKLINE_NO_DEADLINE: as long as it takes
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_stop(const struct dockline_engine *engine,
                                     uint64_t drain_ms);

/**
 * Stops at once: everything is closed at the next turn.
 *
 * @param engine any thread may call this
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_kill(const struct dockline_engine *engine);

/**
 * Tells the counters.
 *
 * @param engine   any thread may call this
 * @param out      set on success
 * @param out_size sizeof(dockline_engine_stats)
 * @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_HANDLE, _E_POISONED
 * @since 0.1
 */
dockline_status dockline_engine_stats_get(const struct dockline_engine *engine,
                                          struct dockline_engine_stats *out,
                                          size_t out_size);

/**
 * Frees an engine in any state, with everything that it owns: listeners, connections, tunnels. Nobody is told of
 * those; stop it first for that. Inside its own callbacks it does nothing.
 *
 * @param engine may be NULL
 * @since 0.1
 */
void dockline_engine_free(struct dockline_engine *engine);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DOCKLINE_H */
