/* SPDX-License-Identifier: MIT
 * Every function for HTTP and for the engine, called wrongly in every possible way: it returns an error and changes nothing.
 *
 *     misuse_http NAMES    a file with the exported functions, one a line; those for HTTP have to be called here
 */
#include <pthread.h>

#include "misuse.h"

static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
#define TEXT_LEN (sizeof text - 1)

static const dockline_str absent = {NULL, 0}, dangling = {NULL, 1}, too_long = {text, SIZE_MAX};

/* Room for any result, and a pattern that shows that nothing was written to it. */
union out {
    dockline_conn_event event;
    dockline_request request;
    dockline_conn_tunnel tunnel;
    dockline_exchange_record record;
    dockline_engine_stats stats;
    dockline_client client;
    dockline_routes_state routes_state;
    dockline_routes_target routes_target;
    void *pointer;
    const uint8_t *bytes_pointer;
    dockline_str text;
    size_t len;
    uint64_t number;
    uint32_t bits;
    int32_t state;
    uint8_t bytes[256];
};

static union out out, out2;

static void reset(void)
{
    memset(&out, 0x55, sizeof out);
    memset(&out2, 0x55, sizeof out2);
}

static int untouched(void)
{
    return is_filled_with(&out, 0x55, sizeof out) && is_filled_with(&out2, 0x55, sizeof out2);
}

static dockline_reply good_reply(void)
{
    dockline_reply reply;
    memset(&reply, 0, sizeof reply);
    reply.status = 200;
    return reply;
}

static dockline_conn *conn_open(void)
{
    dockline_conn *conn = NULL;
    REQUIRE_OK(dockline_conn_new(NULL, 0, NULL, 0, 0, &conn));
    return conn;
}

/* Calls everything that takes a connection, rightly but for the connection. Frees nothing. */
static void every_conn_call_answers(dockline_conn *conn, dockline_status expected)
{
    const dockline_reply reply = good_reply();
    const int32_t down = DOCKLINE_SIDE_DOWNSTREAM;
    reset();
    CHECK_GIVES(CALL(dockline_conn_feed, conn, down, text, 1, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_feed_eof, conn, down, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_feed_error, conn, down, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_output_view, conn, down, &out.bytes_pointer, &out2.len), expected);
    CHECK_GIVES(CALL(dockline_conn_output_sent, conn, down, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_output_refused, conn, down, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_shut_done, conn, down, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_wants, conn, &out.bits, &out2.number), expected);
    CHECK_GIVES(CALL(dockline_conn_handle_timeout, conn, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_next_event, conn, &out.event, sizeof out.event), expected);
    CHECK_GIVES(CALL(dockline_conn_request_view, conn, &out.request, sizeof out.request), expected);
    CHECK_GIVES(CALL(dockline_conn_upstream_ready, conn, absent, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_upstream_failed, conn, DOCKLINE_FAILED_TIMEOUT, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_reply, conn, &reply, sizeof reply, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_passthrough, conn, down, &out.number), expected);
    CHECK_GIVES(CALL(dockline_conn_offered, conn, down, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_passed, conn, down, 0, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_drain, conn, 1), expected);
    CHECK_GIVES(CALL(dockline_conn_kill, conn, 1), expected);
    if (expected != DOCKLINE_E_STATE) { /* these two may be called when the tunnel was taken */
        CHECK_GIVES(CALL(dockline_conn_tunnel_take, conn, &out.tunnel, sizeof out.tunnel), expected);
        CHECK_GIVES(CALL(dockline_conn_record_get, conn, &out.record, sizeof out.record), expected);
        CHECK_GIVES(CALL(dockline_test_panic, (void *)conn), expected);
    }
    CHECK(untouched());
}

static void every_engine_call_answers(dockline_engine *engine, dockline_status expected)
{
    dockline_pair pair;
    dockline_listener_options listener;
    memset(&pair, 0, sizeof pair);
    memset(&listener, 0, sizeof listener);
    reset();
    CHECK_GIVES(CALL(dockline_engine_adopt_listener, engine, 0, &listener, sizeof listener, &out.number), expected);
    CHECK_GIVES(CALL(dockline_engine_close_listener, engine, 1), expected);
    CHECK_GIVES(CALL(dockline_engine_adopt_pair, engine, &pair, sizeof pair), expected);
    CHECK_GIVES(CALL(dockline_engine_poll, engine, 0, &out.state), expected);
    CHECK_GIVES(CALL(dockline_engine_run, engine), expected);
    CHECK_GIVES(CALL(dockline_engine_fd, engine, &out.state), expected);
    CHECK_GIVES(CALL(dockline_engine_timeout_ms, engine, &out.number), expected);
    CHECK_GIVES(CALL(dockline_engine_wake, engine), expected);
    CHECK_GIVES(CALL(dockline_engine_stop, engine, 0), expected);
    CHECK_GIVES(CALL(dockline_engine_kill, engine), expected);
    CHECK_GIVES(CALL(dockline_engine_kill_tunnel, engine, 1), expected);
    CHECK_GIVES(CALL(dockline_engine_kill_upstream, engine, NULL), expected);
    CHECK_GIVES(CALL(dockline_engine_kill_route, engine, DOCKLINE_STR("app")), expected);
    CHECK_GIVES(CALL(dockline_engine_stats_get, engine, &out.stats, sizeof out.stats), expected);
    CHECK_GIVES(CALL(dockline_test_panic, (void *)engine), expected);
    CHECK(untouched());
}

static void every_routes_call_answers(dockline_routes *routes, dockline_status expected)
{
    reset();
    CHECK_GIVES(CALL(dockline_routes_check, routes, 0, &out.state), expected);
    CHECK_GIVES(CALL(dockline_routes_state_view, routes, &out.routes_state, sizeof out.routes_state), expected);
    CHECK_GIVES(CALL(dockline_routes_lookup, routes, absent, absent, &out.routes_target, sizeof out.routes_target),
                expected);
    CHECK_GIVES(CALL(dockline_test_panic, (void *)routes), expected);
    CHECK(untouched());
}

static void every_other_call_answers(void *handle, dockline_status expected)
{
    const dockline_reply reply = good_reply();
    const dockline_rewrite rewrite = DOCKLINE_INIT;
    reset();
    CHECK_GIVES(CALL(dockline_upstream_add_address, handle, DOCKLINE_STR("unix:///a")), expected);
    CHECK_GIVES(CALL(dockline_upstream_in_flight, handle, &out.number, &out2.number), expected);
    CHECK_GIVES(CALL(dockline_route_client, handle, &out.client, sizeof out.client), expected);
    CHECK_GIVES(CALL(dockline_route_request, handle, &out.request, sizeof out.request), expected);
    CHECK_GIVES(CALL(dockline_route_upstream, handle, NULL), expected);
    CHECK_GIVES(CALL(dockline_route_add_upstream, handle, NULL), expected);
    CHECK_GIVES(CALL(dockline_route_name, handle, DOCKLINE_STR("app")), expected);
    CHECK_GIVES(CALL(dockline_route_rewrite, handle, &rewrite, sizeof rewrite), expected);
    CHECK_GIVES(CALL(dockline_route_reply, handle, &reply, sizeof reply), expected);
    CHECK_GIVES(CALL(dockline_route_later, handle, 1, &reply, sizeof reply, (dockline_route **)&out.pointer), expected);
    CHECK_GIVES(CALL(dockline_route_is_waiting, handle, &out.state), expected);
    CHECK_GIVES(CALL(dockline_route_decide, handle), expected);
    CHECK(untouched());
}

static void what_is_no_handle(void)
{
    union {
        uint64_t numbers[64];
        uint8_t bytes[512];
    } memory;
    dockline_conn *conn = conn_open();
    dockline_engine *engine = NULL;
    REQUIRE_OK(CALL(dockline_engine_new, NULL, 0, &engine));
    AT("NULL");
    every_conn_call_answers(NULL, DOCKLINE_E_NULL);
    every_engine_call_answers(NULL, DOCKLINE_E_NULL);
    every_routes_call_answers(NULL, DOCKLINE_E_NULL);
    every_other_call_answers(NULL, DOCKLINE_E_NULL);
    CALL(dockline_conn_free, NULL);
    CALL(dockline_engine_free, NULL);
    CALL(dockline_upstream_free, NULL);
    CALL(dockline_route_free, NULL);
    CALL(dockline_routes_free, NULL);
    for (int byte = 0; byte < 256; byte += 255) {
        AT("memory, %d", byte);
        memset(&memory, byte, sizeof memory);
        every_conn_call_answers((void *)&memory, DOCKLINE_E_HANDLE);
        every_engine_call_answers((void *)&memory, DOCKLINE_E_HANDLE);
        every_routes_call_answers((void *)&memory, DOCKLINE_E_HANDLE);
        every_other_call_answers(&memory, DOCKLINE_E_HANDLE);
        dockline_conn_free((void *)&memory);
        dockline_engine_free((void *)&memory);
        dockline_upstream_free((void *)&memory);
        dockline_route_free((void *)&memory);
        dockline_routes_free((void *)&memory);
        CHECK(is_filled_with(&memory, byte, sizeof memory));
    }
    for (int shift = 0; shift < 8; shift++) {
        AT("another handle, %d bytes off", shift);
        every_other_call_answers((uint8_t *)conn + shift, DOCKLINE_E_HANDLE);
        dockline_upstream_free((void *)((uint8_t *)conn + shift));
        dockline_route_free((void *)((uint8_t *)conn + shift));
        dockline_engine_free((void *)((uint8_t *)conn + shift));
        dockline_routes_free((void *)((uint8_t *)conn + shift));
        dockline_conn_free((void *)((uint8_t *)engine + shift));
        if (shift > 0) {
            every_conn_call_answers((void *)((uint8_t *)conn + shift), DOCKLINE_E_HANDLE);
            every_engine_call_answers((void *)((uint8_t *)engine + shift), DOCKLINE_E_HANDLE);
        }
    }
    AT("both go on");
    CHECK_STATUS(dockline_conn_feed(conn, DOCKLINE_SIDE_DOWNSTREAM, text, TEXT_LEN, 0), DOCKLINE_OK);
    CHECK_STATUS(dockline_engine_poll(engine, 0, NULL), DOCKLINE_OK);
    dockline_conn_free(conn);
    dockline_engine_free(engine);
}

static void making_connections(void)
{
    dockline_conn_options options;
    dockline_client client;
    union {
        dockline_conn_options options;
        dockline_client client;
        uint8_t bytes[sizeof(dockline_conn_options) + ROOM];
    } roomy;
    dockline_conn *conn = NULL;
    memset(&options, 0, sizeof options);
    memset(&client, 0, sizeof client);
    AT("conn_new");
    CHECK_STATUS(CALL(dockline_conn_new, NULL, 0, NULL, 0, 0, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_new(NULL, 1, NULL, 0, 0, &conn), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_new(NULL, 0, NULL, 1, 0, &conn), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_new(&options, 0, NULL, 0, 0, &conn), DOCKLINE_E_SIZE);
    CHECK_STATUS(dockline_conn_new(NULL, 0, &client, 0, 0, &conn), DOCKLINE_E_SIZE);
    AT("conn_new, trusted peers");
    options.trusted = DOCKLINE_STR("10.0.0.0/8,");
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_VALUE);
    options.trusted = DOCKLINE_STR("10.0.0.0/33");
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_VALUE);
    options.trusted = DOCKLINE_STR("10.0.0.0/8");
    options.flags = DOCKLINE_CONN_TRUSTED;
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_VALUE);
    memset(&options, 0, sizeof options);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("conn_new, size: %s", sizes[i].name);
        for (int which = 0; which < 2; which++) {
            conn = NULL;
            dockline_status status;
            if (which == 0) {
                put(&roomy, &options, sizeof options, sizes[i].tail_byte);
                status = dockline_conn_new(&roomy.options, size_of(&sizes[i], sizeof options), NULL, 0, 0, &conn);
            } else {
                put(&roomy, &client, sizeof client, sizes[i].tail_byte);
                status = dockline_conn_new(NULL, 0, &roomy.client, size_of(&sizes[i], sizeof client), 0, &conn);
            }
            CHECK_GIVES(status, sizes[i].in);
            CHECK_EQ(conn == NULL, sizes[i].in != DOCKLINE_OK);
            dockline_conn_free(conn);
        }
    }
    conn = NULL;
    AT("conn_new, values");
    static const char *const no_tokens[] = {"a b", "a\r\nb", "a:b", "\x80"};
    for (size_t i = 0; i < LENGTH(no_tokens); i++) {
        options.via = dockline_str_of(no_tokens[i]);
        CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_VALUE);
    }
    options.via = DOCKLINE_STR("");
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_VALUE);
    options.via = dangling;
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_NULL);
    options.via = absent;
    options.flags = 0x40;
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), DOCKLINE_E_VALUE);
    memset(&options, 0, sizeof options);
    for (uint64_t held = DOCKLINE_CONN_HELD_MAX - 1; held <= DOCKLINE_CONN_HELD_MAX + 1; held++) {
        options.held_bytes = held;
        const int32_t expected = held > DOCKLINE_CONN_HELD_MAX ? DOCKLINE_E_VALUE : DOCKLINE_OK;
        CHECK_EQ(dockline_conn_new(&options, sizeof options, NULL, 0, 0, &conn), expected);
        dockline_conn_free(conn);
        conn = NULL;
    }
    options.held_bytes = 0;
    client.ip_len = 5;
    CHECK_STATUS(dockline_conn_new(NULL, 0, &client, sizeof client, 0, &conn), DOCKLINE_E_VALUE);
    CHECK(conn == NULL);
    memset(&options, 0xff, sizeof options); /* every bound as large as can be */
    options.held_bytes = DOCKLINE_CONN_HELD_MAX;
    options.via = options.base = options.trusted = absent;
    options.flags = 0x1f;
    CHECK_STATUS(dockline_conn_new(&options, sizeof options, NULL, 0, UINT64_MAX, &conn), DOCKLINE_OK);
    CHECK_STATUS(dockline_conn_feed(conn, DOCKLINE_SIDE_DOWNSTREAM, text, TEXT_LEN, 0), DOCKLINE_OK);
    CHECK_STATUS(dockline_conn_wants(conn, &out.bits, &out2.number), DOCKLINE_OK);
    dockline_conn_free(conn);
}

static void using_connections(void)
{
    dockline_conn *conn = conn_open();
    const int32_t down = DOCKLINE_SIDE_DOWNSTREAM, up = DOCKLINE_SIDE_UPSTREAM;
    static const int32_t no_sides[] = {DOCKLINE_SIDE_NONE, DOCKLINE_SIDE_PROXY, 4, -1, INT32_MIN, INT32_MAX};
    const struct {
        size_t size;
        dockline_status in_state;
    } outs[] = {
        {sizeof(dockline_conn_event), DOCKLINE_OK},
        {sizeof(dockline_request), DOCKLINE_OK},
        {sizeof(dockline_conn_tunnel), DOCKLINE_E_STATE},
        {sizeof(dockline_exchange_record), DOCKLINE_E_STATE},
    };
    reset();
    for (size_t i = 0; i < LENGTH(no_sides); i++) {
        AT("side %d", no_sides[i]);
        CHECK_STATUS(dockline_conn_feed(conn, no_sides[i], text, 1, 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_feed_eof(conn, no_sides[i], 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_feed_error(conn, no_sides[i], 0, 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_output_view(conn, no_sides[i], &out.bytes_pointer, &out2.len), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_output_sent(conn, no_sides[i], 0, 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_output_refused(conn, no_sides[i], 0, 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_shut_done(conn, no_sides[i], 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_passthrough(conn, no_sides[i], &out.number), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_offered(conn, no_sides[i], 0, 0), DOCKLINE_E_VALUE);
        CHECK_STATUS(dockline_conn_passed(conn, no_sides[i], 0, 0), DOCKLINE_E_VALUE);
    }
    AT("nothing was asked for");
    CHECK_STATUS(dockline_conn_feed(conn, down, NULL, 1, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_feed(conn, down, text, SIZE_MAX, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_feed(conn, down, NULL, 0, 0), DOCKLINE_OK);
    CHECK_STATUS(dockline_conn_feed(conn, up, text, 1, 0), DOCKLINE_E_STATE);
    CHECK_STATUS(dockline_conn_output_view(conn, down, NULL, &out2.len), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_output_view(conn, down, &out.bytes_pointer, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_output_sent(conn, down, 1, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_wants(conn, NULL, &out2.number), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_wants(conn, &out.bits, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_passthrough(conn, down, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_offered(conn, down, 1, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_passed(conn, down, 1, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_ready(conn, absent, 0, 0), DOCKLINE_E_STATE);
    CHECK_STATUS(dockline_conn_upstream_failed(conn, DOCKLINE_FAILED_TIMEOUT, 0, 0), DOCKLINE_E_STATE);
    CHECK(untouched());

    REQUIRE_OK(dockline_conn_feed(conn, down, text, TEXT_LEN, 0));
    AT("values");
    CHECK_STATUS(dockline_conn_upstream_ready(conn, absent, 2, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_ready(conn, absent, -1, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_ready(conn, dangling, 0, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_conn_upstream_ready(conn, DOCKLINE_STR("a\r\nb"), 0, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_ready(conn, DOCKLINE_STR("\xff"), 0, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_failed(conn, 0, 0, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_failed(conn, 4, 0, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_upstream_failed(conn, DOCKLINE_FAILED_UNREACHABLE, -1, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_feed_error(conn, down, INT32_MIN, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_conn_output_refused(conn, down, -1, 0), DOCKLINE_E_VALUE);
    for (size_t which = 0; which < LENGTH(outs); which++) {
        for (size_t i = 0; i <= LENGTH(sizes); i++) {
            size_t size = i == LENGTH(sizes) ? 0 : size_of(&sizes[i], outs[which].size);
            dockline_status expected = i == LENGTH(sizes) ? DOCKLINE_E_SIZE : sizes[i].out;
            AT("result %zu, size %zu", which, size);
            for (int null = 0; null < 2; null++) {
                void *to = null ? NULL : &out;
                dockline_status status;
                reset();
                if (which == 0)
                    status = dockline_conn_next_event(conn, to, size);
                else if (which == 1)
                    status = dockline_conn_request_view(conn, to, size);
                else if (which == 2)
                    status = dockline_conn_tunnel_take(conn, to, size);
                else
                    status = dockline_conn_record_get(conn, to, size);
                dockline_status good = expected == DOCKLINE_OK ? outs[which].in_state : expected;
                CHECK_GIVES(status, null ? DOCKLINE_E_NULL : good);
                CHECK_EQ(untouched(), null || good != DOCKLINE_OK);
            }
        }
    }
    dockline_conn_free(conn);
}

static dockline_status try_reply(const dockline_reply *reply, size_t size)
{
    dockline_conn *conn = conn_open();
    REQUIRE_OK(dockline_conn_feed(conn, DOCKLINE_SIDE_DOWNSTREAM, text, TEXT_LEN, 0));
    dockline_status status = dockline_conn_reply(conn, reply, size, 0);
    dockline_conn_free(conn);
    return status;
}

static void replies(void)
{
    static const uint32_t statuses[] = {0, 100, 199, 600, 65536 + 200, UINT32_MAX};
    static const char *const own[] = {"Connection", "content-length", "Content-Type", "Transfer-Encoding", "UPGRADE",
                                      "a b", "a\n", ""};
    union {
        dockline_reply reply;
        uint8_t bytes[sizeof(dockline_reply) + ROOM];
    } roomy;
    dockline_field field;
    dockline_reply reply = good_reply();
    AT("reply");
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_OK);
    CHECK_STATUS(try_reply(NULL, sizeof reply), DOCKLINE_E_NULL);
    CHECK_STATUS(try_reply(&reply, 0), DOCKLINE_E_SIZE);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("reply, size: %s", sizes[i].name);
        put(&roomy, &reply, sizeof reply, sizes[i].tail_byte);
        CHECK_GIVES(try_reply(&roomy.reply, size_of(&sizes[i], sizeof reply)), sizes[i].in);
    }
    for (size_t i = 0; i < LENGTH(statuses); i++) {
        AT("reply, status %u", statuses[i]);
        reply.status = statuses[i];
        CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
    }
    for (size_t i = 0; i < LENGTH(own); i++) {
        AT("reply, field \"%s\"", own[i]);
        memset(&field, 0, sizeof field);
        field.name = dockline_str_of(own[i]);
        reply = good_reply();
        reply.fields = &field;
        reply.field_count = 1;
        CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
    }
    AT("reply, fields");
    field.name = DOCKLINE_STR("X");
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_OK);
    field.value = dangling;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_NULL);
    field.value = DOCKLINE_STR("\n");
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
    reply.fields = (const dockline_field *)(const void *)((const uint8_t *)&field + 1);
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
    reply.fields = NULL;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_NULL);
    reply.field_count = SIZE_MAX;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
    AT("reply, body");
    reply = good_reply();
    reply.body_len = 1;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_NULL);
    reply.body = "\xff";
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE); /* a message is UTF-8 */
    reply.content_type = DOCKLINE_STR("a/b");
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_OK);
    reply.status = 204;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
    reply.body_len = 0;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_OK);
    reply.reserved = 1;
    CHECK_STATUS(try_reply(&reply, sizeof reply), DOCKLINE_E_VALUE);
}

static void fields_of_requests(void)
{
    dockline_request request;
    const dockline_field none = {dangling, absent};
    AT("request_field");
    memset(&request, 0, sizeof request);
    reset();
#define FIND(from, from_size, name) CALL(dockline_request_field, from, from_size, name, 0, &out.text)
    const dockline_str name = DOCKLINE_STR("G");
    CHECK_STATUS(FIND(NULL, sizeof request, name), DOCKLINE_E_NULL);
    CHECK_STATUS(FIND(&request, 0, name), DOCKLINE_E_SIZE);
    CHECK_STATUS(FIND(&request, sizeof request - 1, name), DOCKLINE_E_SIZE);
    CHECK_STATUS(FIND(&request, sizeof request, dangling), DOCKLINE_E_NULL);
    CHECK_STATUS(FIND(&request, sizeof request, too_long), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_request_field(&request, sizeof request, name, 0, NULL), DOCKLINE_E_NULL);
    request.field_count = 1;
    CHECK_STATUS(FIND(&request, sizeof request, name), DOCKLINE_E_NULL);
    request.fields = &none;
    CHECK_STATUS(FIND(&request, sizeof request, name), DOCKLINE_E_NULL);
    request.field_count = SIZE_MAX;
    CHECK_STATUS(FIND(&request, sizeof request, name), DOCKLINE_E_VALUE);
    CHECK(untouched());
    request.field_count = 0;
    CHECK_STATUS(FIND(&request, sizeof request, name), DOCKLINE_OK);
    CHECK(is_absent(out.text));
}

static void upstreams(void)
{
    static const char *const wrong[] = {"", "a", "a:1", "unix:/a", "unix://", "unix://a", "tcp://a", "tcp://:1",
                                        "tcp://a:0", "tcp://a:65536", "tcp://a b:1", "tcp://[::1:1", "tls://a:1"};
    dockline_upstream_options options;
    union {
        dockline_upstream_options options;
        uint8_t bytes[sizeof(dockline_upstream_options) + ROOM];
    } roomy;
    dockline_upstream *upstream = NULL;
    memset(&options, 0, sizeof options);
    AT("upstream_new");
    CHECK_STATUS(CALL(dockline_upstream_new, &options, sizeof options, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_upstream_new(NULL, sizeof options, &upstream), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_upstream_new(NULL, 0, &upstream), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_upstream_new(&options, 0, &upstream), DOCKLINE_E_SIZE);
    options.address = dangling;
    CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_NULL);
    for (size_t i = 0; i < LENGTH(wrong); i++) {
        AT("upstream_new, \"%s\"", wrong[i]);
        options.address = dockline_str_of(wrong[i]);
        CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_VALUE);
    }
    options.address = DOCKLINE_STR("unix:///a");
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("upstream_new, size: %s", sizes[i].name);
        put(&roomy, &options, sizeof options, sizes[i].tail_byte);
        upstream = NULL;
        CHECK_GIVES(dockline_upstream_new(&roomy.options, size_of(&sizes[i], sizeof options), &upstream), sizes[i].in);
        CHECK_EQ(upstream == NULL, sizes[i].in != DOCKLINE_OK);
        dockline_upstream_free(upstream);
    }
    AT("upstream_new, numbers");
    options.proxy_protocol = 3;
    CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_VALUE);
    options.proxy_protocol = DOCKLINE_PROXY_PROTOCOL_NONE;
    options.reserved = 1;
    CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_VALUE);
    options.reserved = 0;
    AT("upstream_new, text");
    upstream = NULL;
    options.host = DOCKLINE_STR("a\r\nb");
    CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_VALUE);
    options.host = dangling;
    CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_NULL);
    options.host = absent;
    options.name = DOCKLINE_STR("\xff");
    CHECK_STATUS(dockline_upstream_new(&options, sizeof options, &upstream), DOCKLINE_E_VALUE);
    CHECK(upstream == NULL);
    options.name = absent;
    REQUIRE_OK(dockline_upstream_new(&options, sizeof options, &upstream));
    CHECK_STATUS(dockline_upstream_add_address(upstream, dangling), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_upstream_add_address(upstream, DOCKLINE_STR("a")), DOCKLINE_E_VALUE);
    dockline_upstream_free(upstream);
}

static void never(void *user, dockline_route *route)
{
    (void)user;
    (void)route;
    CHECK(!"called");
}

static void engines(void)
{
    dockline_engine_options options;
    dockline_listener_options listener;
    dockline_pair pair;
    dockline_upstream_options where;
    union {
        dockline_engine_options options;
        dockline_listener_options listener;
        dockline_pair pair;
        uint8_t bytes[256 + ROOM];
    } roomy;
    dockline_engine *engine = NULL;
    dockline_upstream *upstream = NULL;
    int ends[2];
    memset(&options, 0, sizeof options);
    memset(&listener, 0, sizeof listener);
    memset(&pair, 0, sizeof pair);
    memset(&where, 0, sizeof where);
    where.address = DOCKLINE_STR("unix:///a");
    REQUIRE_OK(dockline_upstream_new(&where, sizeof where, &upstream));
    AT("engine_new");
    CHECK_STATUS(dockline_engine_new(NULL, 0, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_new(NULL, 1, &engine), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_new(&options, 0, &engine), DOCKLINE_E_SIZE);
    options.flags = 4;
    CHECK_STATUS(dockline_engine_new(&options, sizeof options, &engine), DOCKLINE_E_VALUE);
    options.flags = 0;
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("engine_new, size: %s", sizes[i].name);
        put(&roomy, &options, sizeof options, sizes[i].tail_byte);
        engine = NULL;
        CHECK_GIVES(dockline_engine_new(&roomy.options, size_of(&sizes[i], sizeof options), &engine), sizes[i].in);
        CHECK_EQ(engine == NULL, sizes[i].in != DOCKLINE_OK);
        dockline_engine_free(engine);
    }
    options.connections = options.linger_ms = options.budget_bytes = UINT64_MAX;
    options.accepts = options.max_pipes = options.pipe_bytes = UINT32_MAX;
    REQUIRE_OK(dockline_engine_new(&options, sizeof options, &engine));

    AT("adopt_listener");
    reset();
    socket_pair(0, ends);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
#define ADOPT(fd) dockline_engine_adopt_listener(engine, fd, &listener, sizeof listener, &out.number)
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_NULL);
    listener.route = never;
    CHECK_STATUS(ADOPT(-1), DOCKLINE_E_VALUE);
    CHECK_STATUS(ADOPT(INT32_MIN), DOCKLINE_E_VALUE);
    errno = 0;
    CHECK_STATUS(ADOPT(INT32_MAX), DOCKLINE_E_SYSTEM);
    CHECK_EQ(errno, EBADF);
    CHECK_STATUS(ADOPT(file), DOCKLINE_E_NOT_STREAM);
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_NOT_LISTENING);
    listener.service = DOCKLINE_SERVICE_FORWARD;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_VALUE);
    listener.route = NULL;
    listener.upstream = (void *)engine;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_HANDLE);
    listener.upstream = upstream;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_NOT_LISTENING);
    listener.service = 2;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_VALUE);
    listener.service = DOCKLINE_SERVICE_HTTP;
    listener.route = never;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_VALUE);
    listener.route = NULL;
    listener.reserved = 1;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_VALUE);
    listener.reserved = 0;
    listener.proxy_protocol = DOCKLINE_STR("10.0.0.0/8 192.0.2.7");
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_VALUE);
    listener.proxy_protocol = DOCKLINE_STR("all");
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_NOT_LISTENING);
    memset(&listener.proxy_protocol, 0, sizeof listener.proxy_protocol);
    listener.conn_size = 1;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_NULL);
    listener.conn_size = 0;
    listener.name = dangling;
    CHECK_STATUS(ADOPT(ends[0]), DOCKLINE_E_NULL);
    listener.name = absent;
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("adopt_listener, size: %s", sizes[i].name);
        put(&roomy, &listener, sizeof listener, sizes[i].tail_byte);
        CHECK_GIVES(dockline_engine_adopt_listener(engine, ends[0], &roomy.listener,
                                                   size_of(&sizes[i], sizeof listener), NULL),
                    sizes[i].in == DOCKLINE_OK ? DOCKLINE_E_NOT_LISTENING : sizes[i].in);
        AT("adopt_pair, size: %s", sizes[i].name);
        pair.downstream_fd = pair.upstream_fd = ends[0];
        put(&roomy, &pair, sizeof pair, sizes[i].tail_byte);
        CHECK_GIVES(dockline_engine_adopt_pair(engine, &roomy.pair, size_of(&sizes[i], sizeof pair)),
                    sizes[i].in == DOCKLINE_OK ? DOCKLINE_E_VALUE : sizes[i].in);
    }
    AT("engine, results");
    CHECK_STATUS(dockline_engine_adopt_listener(engine, ends[0], NULL, sizeof listener, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_adopt_pair(engine, NULL, sizeof pair), DOCKLINE_E_NULL);
    pair.name = dangling;
    CHECK_STATUS(dockline_engine_adopt_pair(engine, &pair, sizeof pair), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_close_listener(engine, 0), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_engine_close_listener(engine, 1), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_engine_close_listener(engine, UINT64_MAX), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_engine_fd(engine, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_timeout_ms(engine, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_stats_get(engine, NULL, sizeof out.stats), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_engine_poll(engine, 0, (int32_t *)(void *)(out.bytes + 1)), DOCKLINE_E_VALUE);
    CHECK(untouched());
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("stats_get, size: %s", sizes[i].name);
        reset();
        CHECK_GIVES(dockline_engine_stats_get(engine, &out.stats, size_of(&sizes[i], sizeof out.stats)), sizes[i].out);
        CHECK_EQ(untouched(), sizes[i].out != DOCKLINE_OK);
    }
    /* None of the descriptors was taken. */
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0 && close(file) == 0);
    dockline_engine_free(engine);
    dockline_upstream_free(upstream);
}

static dockline_routes *routes_open(void)
{
    dockline_routes_options options;
    dockline_routes *routes = NULL;
    memset(&options, 0, sizeof options);
    options.path = DOCKLINE_STR("/nonexistent");
    REQUIRE_OK(CALL(dockline_routes_new, &options, sizeof options, &routes));
    return routes;
}

static void routes(void)
{
    dockline_routes_options options;
    union {
        dockline_routes_options options;
        uint8_t bytes[sizeof(dockline_routes_options) + ROOM];
    } roomy;
    dockline_routes *handle = NULL;
    memset(&options, 0, sizeof options);
    AT("routes_new");
    CHECK_STATUS(dockline_routes_new(&options, sizeof options, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_routes_new(NULL, sizeof options, &handle), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_routes_new(NULL, 0, &handle), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_routes_new(&options, 0, &handle), DOCKLINE_E_SIZE);
    CHECK_STATUS(dockline_routes_new(&options, sizeof options, &handle), DOCKLINE_E_VALUE);
    options.path = dangling;
    CHECK_STATUS(dockline_routes_new(&options, sizeof options, &handle), DOCKLINE_E_NULL);
    options.path = too_long;
    CHECK_STATUS(dockline_routes_new(&options, sizeof options, &handle), DOCKLINE_E_VALUE);
    options.path = DOCKLINE_STR("/a\0b");
    CHECK_STATUS(dockline_routes_new(&options, sizeof options, &handle), DOCKLINE_E_VALUE);
    CHECK(handle == NULL);
    options.path = DOCKLINE_STR("/a");
    options.check_ms = UINT64_MAX;
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("routes_new, size: %s", sizes[i].name);
        put(&roomy, &options, sizeof options, sizes[i].tail_byte);
        handle = NULL;
        CHECK_GIVES(dockline_routes_new(&roomy.options, size_of(&sizes[i], sizeof options), &handle), sizes[i].in);
        CHECK_EQ(handle == NULL, sizes[i].in != DOCKLINE_OK);
        dockline_routes_free(handle);
    }
    handle = routes_open();
    AT("routes");
    reset();
    CHECK_STATUS(dockline_routes_check(handle, 0, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(dockline_routes_check(handle, 0, (int32_t *)(void *)(out.bytes + 1)), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_routes_state_view(handle, NULL, sizeof out.routes_state), DOCKLINE_E_NULL);
#define LOOK_UP(host, path) dockline_routes_lookup(handle, host, path, &out.routes_target, sizeof out.routes_target)
    CHECK_STATUS(LOOK_UP(dangling, absent), DOCKLINE_E_NULL);
    CHECK_STATUS(LOOK_UP(absent, dangling), DOCKLINE_E_NULL);
    CHECK_STATUS(LOOK_UP(too_long, absent), DOCKLINE_E_VALUE);
    CHECK_STATUS(LOOK_UP(absent, too_long), DOCKLINE_E_VALUE);
    CHECK_STATUS(dockline_routes_lookup(handle, absent, absent, NULL, sizeof out.routes_target), DOCKLINE_E_NULL);
    CHECK(untouched());
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("routes, size: %s", sizes[i].name);
        reset();
        CHECK_GIVES(dockline_routes_state_view(handle, &out.routes_state, size_of(&sizes[i], sizeof out.routes_state)),
                    sizes[i].out);
        CHECK_EQ(untouched(), sizes[i].out != DOCKLINE_OK);
        reset();
        CHECK_GIVES(dockline_routes_lookup(handle, absent, absent, &out.routes_target,
                                           size_of(&sizes[i], sizeof out.routes_target)),
                    sizes[i].out);
        CHECK_EQ(untouched(), sizes[i].out != DOCKLINE_OK);
    }
    dockline_routes_free(handle);
}

static void panics_poison(void)
{
    dockline_conn *conn = conn_open();
    dockline_routes *handle = routes_open();
    dockline_engine *engine = NULL;
    REQUIRE_OK(dockline_engine_new(NULL, 0, &engine));
    AT("panic");
    fprintf(stderr, "(three panics are asked for:)\n");
    CHECK_STATUS(dockline_test_panic((void *)conn), DOCKLINE_E_PANIC);
    CHECK_STATUS(dockline_test_panic((void *)engine), DOCKLINE_E_PANIC);
    CHECK_STATUS(dockline_test_panic((void *)handle), DOCKLINE_E_PANIC);
    every_conn_call_answers(conn, DOCKLINE_E_POISONED);
    every_engine_call_answers(engine, DOCKLINE_E_POISONED);
    every_routes_call_answers(handle, DOCKLINE_E_POISONED);
    dockline_routes_free(handle);
    dockline_conn_free(conn);
    dockline_engine_free(engine);
}

/* What is left of a connection whose tunnel was taken. */
static void a_tunnel_was_taken(void)
{
    static const char request[] = "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    static const char answer[] = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    dockline_conn *conn = conn_open();
    AT("a tunnel was taken");
    REQUIRE_OK(dockline_conn_feed(conn, DOCKLINE_SIDE_DOWNSTREAM, request, sizeof request - 1, 0));
    REQUIRE_OK(dockline_conn_upstream_ready(conn, absent, 0, 0));
    REQUIRE_OK(dockline_conn_feed(conn, DOCKLINE_SIDE_UPSTREAM, answer, sizeof answer - 1, 0));
    for (int side = DOCKLINE_SIDE_DOWNSTREAM; side <= DOCKLINE_SIDE_UPSTREAM; side++) {
        REQUIRE_OK(dockline_conn_output_view(conn, side, &out.bytes_pointer, &out2.len));
        REQUIRE_OK(dockline_conn_output_sent(conn, side, out2.len, 0));
    }
    do {
        CHECK_STATUS(dockline_conn_tunnel_take(conn, &out.tunnel, sizeof out.tunnel), DOCKLINE_E_STATE);
        REQUIRE_OK(dockline_conn_next_event(conn, &out.event, sizeof out.event));
    } while (out.event.kind != DOCKLINE_EVENT_TUNNEL);
    REQUIRE_OK(dockline_conn_tunnel_take(conn, &out.tunnel, sizeof out.tunnel));
    every_conn_call_answers(conn, DOCKLINE_E_STATE);
    REQUIRE_OK(dockline_conn_tunnel_take(conn, &out.tunnel, sizeof out.tunnel));
    REQUIRE_OK(dockline_conn_record_get(conn, &out.record, sizeof out.record));
    dockline_conn_free(conn);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: misuse_http NAMES\n");
        return 2;
    }
    int descriptors = open_descriptors();
    what_is_no_handle();
    making_connections();
    using_connections();
    replies();
    fields_of_requests();
    upstreams();
    engines();
    routes();
    panics_poison();
    a_tunnel_was_taken();
    AT("names");
    CHECK(CALL(dockline_exchange_end_name, INT32_MIN) != NULL);
    CHECK(CALL(dockline_phase_name, INT32_MIN) != NULL);
    CHECK(CALL(dockline_cause_name, INT32_MIN) != NULL);
    nothing_is_left_out(argv[1], 1);
    AT("descriptors");
    CHECK_EQ(open_descriptors(), descriptors);
    return check_summary("misuse_http");
}
