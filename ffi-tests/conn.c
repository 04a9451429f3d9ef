/* SPDX-License-Identifier: MIT
 * dockline_conn in memory: exchanges, failures and tunnels, byte for byte. */
#include <errno.h>

#include "check.h"

enum { DOWN = DOCKLINE_SIDE_DOWNSTREAM, UP = DOCKLINE_SIDE_UPSTREAM };

struct rig {
    dockline_conn *conn;
    uint64_t now;
    char sent[3][8192]; /* by side */
    size_t sent_len[3];
    char events[512];
    int hold; /* NEED_UPSTREAM is left to the test */
};

static void rig_open(struct rig *rig, const dockline_conn_options *options)
{
    dockline_client client;
    memset(rig, 0, sizeof *rig);
    memset(&client, 0, sizeof client);
    memcpy(client.ip, "\300\000\002\001", 4);
    client.ip_len = 4;
    rig->now = 1000;
    REQUIRE(dockline_conn_new(options, options == NULL ? 0 : sizeof *options, &client, sizeof client, rig->now,
                              &rig->conn)
            == DOCKLINE_OK);
}

static void note(struct rig *rig, const char *text)
{
    size_t len = strlen(rig->events);
    snprintf(rig->events + len, sizeof rig->events - len, "%s%s", len == 0 ? "" : ", ", text);
}

/* Why the last exchange failed, in words: its side, the phase, the cause and what is known of that. */
static const char *failure_of(struct rig *rig)
{
    static const char *const sides[] = {"nobody", "client", "daemon", "proxy"};
    static char text[128];
    dockline_exchange_record record;
    REQUIRE_OK(dockline_conn_record_get(rig->conn, &record, sizeof record));
    REQUIRE(record.failure.side >= DOCKLINE_SIDE_NONE && record.failure.side <= DOCKLINE_SIDE_PROXY);
    CHECK_EQ(record.failure.reserved, 0);
    snprintf(text, sizeof text, "%s, %s, %s, errno %d, alert %u, at %ju", sides[record.failure.side],
             dockline_phase_name(record.failure.phase), dockline_cause_name(record.failure.cause),
             record.failure.error_number, record.failure.tls_alert, (uintmax_t)record.failure.offset);
    return text;
}

static void note_record(struct rig *rig)
{
    dockline_exchange_record record;
    char text[128];
    REQUIRE(dockline_conn_record_get(rig->conn, &record, sizeof record) == DOCKLINE_OK);
    snprintf(text, sizeof text, "%s %u %.*s", dockline_exchange_end_name(record.end), record.status,
             (int)record.target.len, record.target.data);
    note(rig, text);
}

/* What a host does after each call: all events, then the output of both sides. */
static void rig_turn(struct rig *rig)
{
    for (int quiet = 0; !quiet;) {
        dockline_conn_event event;
        quiet = 1;
        while (REQUIRE_OK(dockline_conn_next_event(rig->conn, &event, sizeof event)), event.kind != 0) {
            quiet = 0;
            switch (event.kind) {
            case DOCKLINE_EVENT_NEED_UPSTREAM:
                note(rig, event.flags & DOCKLINE_EVENT_MAY_REUSE ? "connect or reuse" : "connect");
                if (!rig->hold)
                    REQUIRE_OK(dockline_conn_upstream_ready(rig->conn, DOCKLINE_STR("docker"), 0, rig->now));
                break;
            case DOCKLINE_EVENT_RELEASE_UPSTREAM:
                note(rig, event.flags & DOCKLINE_EVENT_KEEP ? "keep" : "drop");
                break;
            case DOCKLINE_EVENT_EXCHANGE_ENDED:
                note_record(rig);
                break;
            case DOCKLINE_EVENT_TUNNEL:
                note(rig, event.tunnel == DOCKLINE_DECISION_TUNNEL_UPGRADE ? "upgrade" : "tunnel");
                return;
            case DOCKLINE_EVENT_CLOSED:
                note(rig, event.flags & DOCKLINE_EVENT_RESET ? "reset" : "closed");
                return;
            default:
                REQUIRE(!"a known event");
            }
        }
        for (int side = DOWN; side <= UP; side++) {
            const uint8_t *data;
            size_t len;
            REQUIRE_OK(dockline_conn_output_view(rig->conn, side, &data, &len));
            if (len == 0)
                continue;
            len = len < 7 ? len : 7; /* short writes, always */
            REQUIRE(rig->sent_len[side] + len < sizeof rig->sent[side]);
            memcpy(rig->sent[side] + rig->sent_len[side], data, len);
            rig->sent_len[side] += len;
            REQUIRE_OK(dockline_conn_output_sent(rig->conn, side, len, rig->now));
            quiet = 0;
        }
    }
}

/* Feeds a text, some bytes at a time, from a buffer that is gone afterwards. */
static void rig_feed(struct rig *rig, int side, const char *text, size_t step)
{
    for (size_t at = 0, len = strlen(text); at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        uint8_t *copy = malloc(n);
        REQUIRE(copy != NULL);
        memcpy(copy, text + at, n);
        REQUIRE_OK(dockline_conn_feed(rig->conn, side, copy, n, rig->now));
        memset(copy, 0xDD, n);
        free(copy);
        rig_turn(rig);
    }
}

static void expect(struct rig *rig, const char *events, const char *down, const char *up)
{
    rig->sent[DOWN][rig->sent_len[DOWN]] = rig->sent[UP][rig->sent_len[UP]] = '\0';
    CHECK_STR(rig->events, events);
    CHECK_STR(rig->sent[DOWN], down);
    CHECK_STR(rig->sent[UP], up);
    rig->events[0] = '\0';
    rig->sent_len[DOWN] = rig->sent_len[UP] = 0;
}

static uint32_t interest(struct rig *rig)
{
    uint32_t interest;
    uint64_t deadline_ms;
    REQUIRE_OK(dockline_conn_wants(rig->conn, &interest, &deadline_ms));
    return interest;
}

static uint64_t deadline(struct rig *rig)
{
    uint32_t interest;
    uint64_t deadline_ms;
    REQUIRE_OK(dockline_conn_wants(rig->conn, &interest, &deadline_ms));
    return deadline_ms;
}

static void rig_close(struct rig *rig)
{
    dockline_conn_free(rig->conn);
    rig->conn = NULL;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9\r\n\r\n"
#define SENT(path) "GET " path " HTTP/1.1\r\nHost: docker\r\n\r\n"

static void exchanges(size_t step)
{
    struct rig rig;
    AT("exchanges, %zu bytes at a time", step);
    rig_open(&rig, NULL);
    CHECK_EQ(interest(&rig), DOCKLINE_DOWNSTREAM_READ);
    CHECK_EQ(deadline(&rig), 1000 + 300000);
    rig_feed(&rig, DOWN, GET("/a"), step);
    expect(&rig, "connect or reuse", "", SENT("/a"));
    CHECK(interest(&rig) & DOCKLINE_UPSTREAM_READ);
    rig_feed(&rig, UP, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", step);
    expect(&rig, "keep, complete 200 /a", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "");

    /* Two at once: the second waits for the first. */
    rig_feed(&rig, DOWN, GET("/b") "DELETE /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", step);
    expect(&rig, "connect or reuse", "", SENT("/b"));
    rig_feed(&rig, UP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n", step);
    expect(&rig, "keep, complete 200 /b, connect or reuse",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n",
           "DELETE /c HTTP/1.1\r\nHost: docker\r\n\r\n");
    rig_feed(&rig, UP, "HTTP/1.1 204 No Content\r\n\r\n", step);
    expect(&rig, "keep, complete 204 /c, closed", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "");
    rig_close(&rig);
}

static void a_tunnel_with_early_bytes(size_t step)
{
    struct rig rig;
    dockline_conn_tunnel tunnel, again;
    AT("a tunnel, %zu bytes at a time", step);
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", step);
    expect(&rig, "connect", "",
           "POST /exec/x/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    CHECK_EQ(dockline_conn_tunnel_take(rig.conn, &tunnel, sizeof tunnel), DOCKLINE_E_STATE);
    rig_feed(&rig, DOWN, "echo hi", step);
    expect(&rig, "", "", "");
    const char *answer = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    char both[128];
    snprintf(both, sizeof both, "%s$ ", answer);
    /* What follows the head comes with its last byte. */
    size_t len = strlen(answer);
    REQUIRE_OK(dockline_conn_feed(rig.conn, UP, both, len - 1, rig.now));
    rig_turn(&rig);
    REQUIRE_OK(dockline_conn_feed(rig.conn, UP, both + len - 1, 3, rig.now));
    rig_turn(&rig);
    expect(&rig, "complete 101 /exec/x/start, upgrade", answer, "");
    REQUIRE_OK(dockline_conn_tunnel_take(rig.conn, &tunnel, sizeof tunnel));
    CHECK(tunnel.from_downstream_len == 7 && memcmp(tunnel.from_downstream, "echo hi", 7) == 0);
    CHECK(tunnel.from_upstream_len == 2 && memcmp(tunnel.from_upstream, "$ ", 2) == 0);
    REQUIRE_OK(dockline_conn_tunnel_take(rig.conn, &again, sizeof again));
    CHECK(memcmp(&tunnel, &again, sizeof tunnel) == 0);
    CHECK_EQ(dockline_conn_feed(rig.conn, DOWN, "x", 1, rig.now), DOCKLINE_E_STATE);
    dockline_exchange_record record;
    REQUIRE_OK(dockline_conn_record_get(rig.conn, &record, sizeof record));
    CHECK_EQ(record.tunnel, DOCKLINE_DECISION_TUNNEL_UPGRADE);
    rig_close(&rig);
}

static dockline_str field(const dockline_request *request, const char *name, size_t nth)
{
    dockline_str value;
    REQUIRE_OK(dockline_request_field(request, sizeof *request, dockline_str_of(name), nth, &value));
    return value;
}

static void requests_are_shown(void)
{
    struct rig rig;
    dockline_request request;
    AT("a request is shown");
    rig_open(&rig, NULL);
    rig.hold = 1;
    CHECK_EQ(dockline_conn_request_view(rig.conn, &request, sizeof request), DOCKLINE_E_STATE);
    rig_feed(&rig, DOWN, "GET /v1/x?y HTTP/1.1\r\nhost: d\r\nX-A: one\r\nx-empty:\r\nx-a:  two \r\n\r\n", 5);
    REQUIRE_OK(dockline_conn_request_view(rig.conn, &request, sizeof request));
    CHECK(is_text(request.method, "GET"));
    CHECK(is_text(request.target, "/v1/x?y"));
    CHECK_EQ(request.version, DOCKLINE_HTTP_11);
    CHECK_EQ(request.field_count, 4);
    CHECK(is_text(request.fields[1].name, "X-A"));
    CHECK(is_text(field(&request, "X-a", 0), "one"));
    CHECK(is_text(field(&request, "X-a", 1), "two"));
    CHECK(is_absent(field(&request, "x-a", 2)));
    CHECK(is_text(field(&request, "x-empty", 0), ""));
    CHECK(is_absent(field(&request, "", 0)));
    rig_close(&rig);
}

static void own_answers(void)
{
    const dockline_field more[] = {
        {DOCKLINE_STR("Location"), DOCKLINE_STR("/there")},
        {DOCKLINE_STR("X-B"), dockline_str_of(NULL)},
    };
    struct rig rig;
    dockline_reply reply;
    AT("responses of its own");
    memset(&reply, 0, sizeof reply);
    rig_open(&rig, NULL);
    rig.hold = 1;
    reply.status = 403;
    reply.body = "say \"no\"";
    reply.body_len = 8;
    CHECK_EQ(dockline_conn_reply(rig.conn, &reply, sizeof reply, rig.now), DOCKLINE_E_STATE);
    rig_feed(&rig, DOWN, GET("/a"), 100);
    REQUIRE_OK(dockline_conn_reply(rig.conn, &reply, sizeof reply, rig.now));
    CHECK_EQ(dockline_conn_reply(rig.conn, &reply, sizeof reply, rig.now), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_conn_upstream_ready(rig.conn, dockline_str_of(NULL), 0, rig.now), DOCKLINE_E_STATE);
    rig_turn(&rig);
    expect(&rig, "connect or reuse, replied 403 /a",
           "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n"
           "{\"message\":\"say \\\"no\\\"\"}\n",
           "");
    reply.status = 302;
    reply.content_type = DOCKLINE_STR("text/plain");
    reply.fields = more;
    reply.field_count = 2;
    rig_feed(&rig, DOWN, GET("/b"), 100);
    REQUIRE_OK(dockline_conn_reply(rig.conn, &reply, sizeof reply, rig.now));
    rig_turn(&rig);
    expect(&rig, "connect or reuse, replied 302 /b",
           "HTTP/1.1 302 Found\r\nContent-Type: text/plain\r\nLocation: /there\r\nX-B: \r\nContent-Length: 8\r\n\r\n"
           "say \"no\"",
           "");
    static const struct {
        int32_t failure, error_number;
        const char *events, *start, *reason;
    } failures[] = {
        {DOCKLINE_FAILED_UNREACHABLE, ECONNREFUSED, "connect or reuse, unreachable 502 /c",
         "HTTP/1.1 502 Bad Gateway\r\n", "daemon, connect, connect-failed, errno 111, alert 0, at 0"},
        {DOCKLINE_FAILED_TIMEOUT, 0, "connect or reuse, upstream-timeout 504 /c", "HTTP/1.1 504 Gateway Timeout\r\n",
         "daemon, connect, connect-timeout, errno 0, alert 0, at 0"},
        {DOCKLINE_FAILED_OVERLOADED, EMFILE, "connect or reuse, unreachable 503 /c",
         "HTTP/1.1 503 Service Unavailable\r\n", "proxy, connect, out-of-resources, errno 24, alert 0, at 0"},
    };
    for (int i = 0; i < 3; i++) {
        rig_feed(&rig, DOWN, GET("/c"), 100);
        REQUIRE_OK(dockline_conn_upstream_failed(rig.conn, failures[i].failure, failures[i].error_number, rig.now));
        rig_turn(&rig);
        CHECK_STR(rig.events, failures[i].events);
        CHECK_STR(failure_of(&rig), failures[i].reason);
        CHECK(memcmp(rig.sent[DOWN], failures[i].start, strlen(failures[i].start)) == 0);
        rig.events[0] = '\0';
        rig.sent_len[DOWN] = 0;
    }
    rig_close(&rig);
}

static void bodies_may_pass_by(void)
{
    struct rig rig;
    uint64_t len = 1;
    AT("passthrough");
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 1000);
    REQUIRE_OK(dockline_conn_passthrough(rig.conn, DOWN, &len));
    CHECK_EQ(len, 7);
    REQUIRE_OK(dockline_conn_passthrough(rig.conn, UP, &len));
    CHECK_EQ(len, 0);
    CHECK_EQ(dockline_conn_passed(rig.conn, DOWN, 8, rig.now), DOCKLINE_E_VALUE);
    CHECK_EQ(dockline_conn_offered(rig.conn, DOWN, 8, rig.now), DOCKLINE_E_VALUE);
    CHECK(deadline(&rig) != UINT64_MAX);
    /* The daemon takes its time: no clock of the client's runs. */
    REQUIRE_OK(dockline_conn_offered(rig.conn, DOWN, 4, rig.now));
    CHECK_EQ(deadline(&rig), UINT64_MAX);
    REQUIRE_OK(dockline_conn_passthrough(rig.conn, DOWN, &len));
    CHECK_EQ(len, 3);
    CHECK_EQ(dockline_conn_passed(rig.conn, DOWN, 8, rig.now), DOCKLINE_E_VALUE);
    REQUIRE_OK(dockline_conn_passed(rig.conn, DOWN, 4, rig.now));
    CHECK(deadline(&rig) != UINT64_MAX);
    REQUIRE_OK(dockline_conn_passed(rig.conn, DOWN, 2, rig.now));
    rig_feed(&rig, DOWN, "z", 1);
    REQUIRE_OK(dockline_conn_passthrough(rig.conn, DOWN, &len));
    CHECK_EQ(len, 0);
    rig_feed(&rig, UP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 1000);
    REQUIRE_OK(dockline_conn_passthrough(rig.conn, UP, &len));
    CHECK_EQ(len, 5);
    REQUIRE_OK(dockline_conn_passed(rig.conn, UP, 5, rig.now));
    rig_turn(&rig);
    dockline_exchange_record record;
    REQUIRE_OK(dockline_conn_record_get(rig.conn, &record, sizeof record));
    CHECK_EQ(record.bytes_up, 10);
    CHECK_EQ(record.bytes_down, 5);
    CHECK_EQ(record.end, DOCKLINE_END_COMPLETE);
    rig_close(&rig);
}

static void time_and_ends(void)
{
    struct rig rig;
    dockline_conn_options options;
    AT("a slow head");
    memset(&options, 0, sizeof options);
    options.head_ms = 50;
    options.via = DOCKLINE_STR("edge");
    options.flags = DOCKLINE_CONN_X_FORWARDED;
    rig_open(&rig, &options);
    rig_feed(&rig, DOWN, "GET", 1);
    CHECK_EQ(deadline(&rig), 1050);
    rig.now = 1049;
    REQUIRE_OK(dockline_conn_handle_timeout(rig.conn, rig.now));
    rig_turn(&rig);
    CHECK_STR(rig.events, "");
    rig.now = 1050;
    REQUIRE_OK(dockline_conn_handle_timeout(rig.conn, rig.now));
    rig_turn(&rig);
    CHECK_STR(rig.events, "client-timeout 408 ");
    CHECK_EQ(interest(&rig), DOCKLINE_DOWNSTREAM_READ | DOCKLINE_DOWNSTREAM_SHUT);
    REQUIRE_OK(dockline_conn_shut_done(rig.conn, DOWN, rig.now));
    CHECK_EQ(interest(&rig), DOCKLINE_DOWNSTREAM_READ);
    REQUIRE_OK(dockline_conn_feed_eof(rig.conn, DOWN, rig.now));
    rig_turn(&rig);
    CHECK_STR(rig.events, "client-timeout 408 , closed");
    rig_close(&rig);

    AT("forwarding, and a cut response");
    rig_open(&rig, &options);
    rig_feed(&rig, DOWN, GET("/a"), 1000);
    expect(&rig, "connect or reuse", "",
           "GET /a HTTP/1.1\r\nHost: docker\r\nVia: 1.1 edge\r\nX-Forwarded-For: 192.0.2.1\r\n"
           "X-Forwarded-Proto: http\r\nX-Forwarded-Host: x\r\nX-Forwarded-Port: 80\r\n"
           "X-Real-IP: 192.0.2.1\r\n\r\n");
    rig_feed(&rig, UP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 1000);
    REQUIRE_OK(dockline_conn_feed_error(rig.conn, UP, ECONNRESET, rig.now));
    rig_turn(&rig);
    CHECK_STR(rig.events, "drop, truncated 200 /a, closed");
    CHECK_STR(failure_of(&rig), "daemon, response-body, reset, errno 104, alert 0, at 0");
    rig_close(&rig);

    AT("a trusted proxy");
    options.trusted = DOCKLINE_STR("unix, 192.0.2.0/24");
    rig_open(&rig, &options);
    rig_feed(&rig, DOWN, "GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", 1000);
    expect(&rig, "connect or reuse", "",
           "GET /a HTTP/1.1\r\nHost: docker\r\nX-Forwarded-For: 1.2.3.4\r\nVia: 1.1 edge\r\n"
           "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: x\r\n"
           "X-Forwarded-Port: 80\r\nX-Real-IP: 1.2.3.4\r\n\r\n");
    rig_close(&rig);

    AT("a TLS stream that was cut, and a malformed response");
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, GET("/a"), 1000);
    REQUIRE_OK(dockline_conn_feed_error(rig.conn, UP, 0, rig.now));
    rig_turn(&rig);
    CHECK_STR(failure_of(&rig), "daemon, response-head, tls-truncated, errno 0, alert 0, at 0");
    rig_close(&rig);
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, GET("/a"), 1000);
    REQUIRE_OK(dockline_conn_feed_error(rig.conn, UP, ENOMEM, rig.now));
    rig_turn(&rig);
    CHECK_STR(failure_of(&rig), "proxy, response-head, out-of-resources, errno 12, alert 0, at 0");
    rig_close(&rig);
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, GET("/a"), 1000);
    rig_feed(&rig, UP, "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", 1000);
    CHECK_STR(failure_of(&rig), "daemon, response-head, bare-lf, errno 0, alert 0, at 21");
    rig_close(&rig);

    AT("drain and kill");
    rig_open(&rig, NULL);
    REQUIRE_OK(dockline_conn_drain(rig.conn, rig.now));
    rig_turn(&rig);
    /* It has only just come: it may still ask, once. */
    CHECK_STR(rig.events, "");
    CHECK_EQ(interest(&rig), DOCKLINE_DOWNSTREAM_READ);
    CHECK(deadline(&rig) != DOCKLINE_NO_DEADLINE);
    rig_close(&rig);
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, GET("/a"), 1000);
    rig_feed(&rig, UP, "HTTP/1.1 204 No Content\r\n\r\n", 1000);
    REQUIRE_OK(dockline_conn_drain(rig.conn, rig.now));
    rig_turn(&rig);
    CHECK_STR(rig.events, "connect or reuse, keep, complete 204 /a, closed");
    CHECK_EQ(interest(&rig), 0);
    CHECK(deadline(&rig) == DOCKLINE_NO_DEADLINE);
    rig_close(&rig);
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, GET("/a"), 1000);
    REQUIRE_OK(dockline_conn_kill(rig.conn, rig.now));
    rig_turn(&rig);
    CHECK_STR(rig.events, "connect or reuse, drop, stopped 0 /a, closed");
    rig_close(&rig);

    AT("a client that leaves, and an upstream that refuses");
    rig_open(&rig, NULL);
    rig_feed(&rig, DOWN, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 1000);
    REQUIRE_OK(dockline_conn_output_refused(rig.conn, UP, EPIPE, rig.now));
    rig_feed(&rig, UP, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 1000);
    CHECK_STR(rig.events, "connect, drop, complete 400 /a");
    CHECK_STR(failure_of(&rig), "nobody, none, none, errno 0, alert 0, at 0");
    rig_close(&rig);
}

/* What follows a request that was to take the connection over is never a request, whoever refuses it. */
static void input_for_no_tunnel(size_t step)
{
    static const char input[] = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    static const char *const proposals[] = {
        "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        "POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "POST /session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    };
    static const char *const answers[] = {
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "SSH-2.0-x\r\n",
        NULL, /* it leaves */
    };
    enum { ANSWERS = sizeof answers / sizeof *answers, WAYS = ANSWERS + 4 };
    dockline_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.status = 403;
    for (size_t i = 0; i < sizeof proposals / sizeof *proposals; i++) {
        for (int way = 0; way < WAYS; way++) {
            struct rig rig;
            AT("proposal %zu, way %d, %zu bytes at a time", i, way, step);
            rig_open(&rig, NULL);
            rig.hold = way >= ANSWERS;
            rig_feed(&rig, DOWN, proposals[i], step);
            rig_feed(&rig, DOWN, input, step);
            if (way == ANSWERS)
                REQUIRE_OK(dockline_conn_reply(rig.conn, &reply, sizeof reply, rig.now));
            else if (way > ANSWERS)
                REQUIRE_OK(dockline_conn_upstream_failed(rig.conn, DOCKLINE_FAILED_UNREACHABLE + way - ANSWERS - 1,
                                                         0, rig.now));
            else if (answers[way] == NULL)
                REQUIRE_OK(dockline_conn_feed_eof(rig.conn, UP, rig.now));
            else
                rig_feed(&rig, UP, answers[way], 1000); /* not a response: refused at its first byte */
            rig_turn(&rig);
            rig_feed(&rig, DOWN, input, step);
            CHECK_EQ(interest(&rig), DOCKLINE_DOWNSTREAM_READ | DOCKLINE_DOWNSTREAM_SHUT);
            REQUIRE_OK(dockline_conn_shut_done(rig.conn, DOWN, rig.now));
            REQUIRE_OK(dockline_conn_feed_eof(rig.conn, DOWN, rig.now));
            rig_turn(&rig);
            rig.sent[DOWN][rig.sent_len[DOWN]] = rig.sent[UP][rig.sent_len[UP]] = '\0';
            CHECK(strstr(rig.sent[UP], "/create") == NULL && strstr(rig.events, "/create") == NULL);
            CHECK(strstr(strstr(rig.events, "connect") + 1, "connect") == NULL);
            CHECK(strstr(rig.sent[DOWN], "\r\nConnection: close\r\n") != NULL);
            CHECK(strstr(rig.events, ", closed") != NULL);
            rig_close(&rig);
        }
    }
}

/* A client that half-closes after its request receives the response, in every phase; within the request it does not. */
static void half_closes(size_t step)
{
    static const char *const whole[] = {
        GET("/a"),
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    };
    static const char *const cut[] = {
        "GET /a HTTP/1.1\r\nHost: x\r\n",
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nh",
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
    };
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
    enum { CONNECTING, WAITING, WITHIN_THE_ANSWER, PHASES };
    for (int i = 0; i < 3; i++) {
        struct rig rig;
        for (int phase = CONNECTING; phase < PHASES; phase++) {
            size_t half = phase == WITHIN_THE_ANSWER ? 20 : 0;
            char first[sizeof answer];
            AT("whole request %d, phase %d, %zu bytes at a time", i, phase, step);
            rig_open(&rig, NULL);
            rig.hold = phase == CONNECTING;
            rig_feed(&rig, DOWN, whole[i], step);
            memcpy(first, answer, half);
            first[half] = '\0';
            rig_feed(&rig, UP, first, step);
            REQUIRE_OK(dockline_conn_feed_eof(rig.conn, DOWN, rig.now));
            rig_turn(&rig);
            if (phase == CONNECTING)
                REQUIRE_OK(dockline_conn_upstream_ready(rig.conn, DOCKLINE_STR("docker"), 0, rig.now));
            rig_turn(&rig);
            rig_feed(&rig, UP, answer + half, step);
            CHECK(strstr(rig.events, "complete 200 /a, closed") != NULL);
            CHECK(memcmp(rig.sent[DOWN], answer, sizeof answer - 1) == 0);
            rig_close(&rig);
        }
        AT("cut request %d, %zu bytes at a time", i, step);
        rig_open(&rig, NULL);
        rig_feed(&rig, DOWN, cut[i], step);
        REQUIRE_OK(dockline_conn_feed_eof(rig.conn, DOWN, rig.now));
        rig_turn(&rig);
        CHECK_STR(rig.events, i == 0 ? "closed" : "connect, drop, client-aborted 0 /a, closed");
        CHECK_EQ(rig.sent_len[DOWN], 0);
        rig_close(&rig);
    }
}

int main(void)
{
    static const size_t steps[] = {1, 2, 3, 7, 1000};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        exchanges(steps[i]);
        a_tunnel_with_early_bytes(steps[i]);
        input_for_no_tunnel(steps[i]);
        half_closes(steps[i]);
    }
    requests_are_shown();
    own_answers();
    bodies_may_pass_by();
    time_and_ends();
    return check_summary("conn");
}
