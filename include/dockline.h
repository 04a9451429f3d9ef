/* SPDX-License-Identifier: MIT
 *
 * dockline: the core of a proxy for the Docker Engine API, for C and C++.
 * Made from src/ffi by cbindgen; `cargo test --test abi` compares it. Do not edit.
 *
 * What it does. Docker's attach, exec, /session and /grpc stop being HTTP half way: the connection
 * becomes a raw stream in both directions. dockline_request_plan_make() and dockline_hijack_decide()
 * tell when that happens; a dockline_relay then joins the two connections, with half-close, back-pressure
 * and zero-copy, until both directions have ended.
 *
 * The host keeps its sockets, its event loop and its clock. The library starts no thread, opens nothing
 * but pipes, installs no signal handler and keeps no global state.
 *
 * The loop, in short:
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
 * examples/relay_server.c is a whole server.
 *
 * Threads. A handle is used by one thread at a time, and so are all relays of one worker. A second call
 * at the same time gets DOCKLINE_E_BUSY. The two decision functions may be called from anywhere.
 *
 * Ownership. _new makes, _free frees and accepts NULL. Memory and descriptors that the host passes are
 * borrowed: for the call, or, where the text says so, until the relay is freed. The library closes
 * no descriptor of the host's. Results are written on success only.
 *
 * Structs cross with their size: pass sizeof. All zero is the default everywhere. A program built
 * against an older header goes on working; one built against a newer header may use what this library
 * knows, and gets DOCKLINE_E_SIZE if it sets more.
 *
 * Errors. 0 is success, negative is a dockline_status. A connection that breaks is no error of a call:
 * it is a close reason. Panics do not cross: the call returns DOCKLINE_E_PANIC, and the handle can only
 * be freed.
 *
 * Fork. Make workers after fork(2); a child does not use its parent's.
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
 * One message, one answer.
 */
#define DOCKLINE_REQUEST_ORDINARY 0

/**
 * The same, but long silence is normal, before the answer and within it: no read timeout.
 */
#define DOCKLINE_REQUEST_FOLLOWED 1

/**
 * It may turn into a tunnel: what the client sends behind it is held until the response head decides,
 * and the upstream connection is never used for another request.
 */
#define DOCKLINE_REQUEST_SWITCH 2

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
 * A tunnel: two byte streams joined, driven by the host.
 */
typedef struct dockline_relay dockline_relay;

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
 * The word for a close reason, for logs: "none", "eof", "linger", "idle", "downstream-reset",
 * "upstream-reset", "drain", "killed".
 *
 * @param reason DOCKLINE_CLOSE_*
 * @return a static string; "unknown" for another number
 * @since 0.1
 */
const char *dockline_close_reason_name(int32_t reason);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DOCKLINE_H */
