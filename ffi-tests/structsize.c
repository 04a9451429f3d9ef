/* SPDX-License-Identifier: MIT
 * Structs cross by pointer and size: where their fields lie is frozen, and not a byte beyond is touched. */
#include "bed.h"

enum { GUARD = 64, PATTERN = 0xA5 };

/* Bytes of some size, anywhere in memory, between guards. */
struct guarded {
    uint8_t *block, *bytes;
    size_t len;
};

static struct guarded guarded_make(size_t len, size_t misaligned_by)
{
    struct guarded guarded;
    guarded.len = len;
    /* No byte of the block is left over behind the second guard, so that ASan and memcheck see more. */
    guarded.block = malloc(GUARD + misaligned_by + len + GUARD);
    REQUIRE(guarded.block != NULL);
    memset(guarded.block, PATTERN, GUARD + misaligned_by + len + GUARD);
    guarded.bytes = guarded.block + GUARD + misaligned_by;
    return guarded;
}

static int is_all(const uint8_t *bytes, int value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != value)
            return 0;
    }
    return 1;
}

static void guarded_free(struct guarded *guarded)
{
    CHECK(is_all(guarded->block, PATTERN, (size_t)(guarded->bytes - guarded->block)));
    CHECK(is_all(guarded->bytes + guarded->len, PATTERN, GUARD));
    free(guarded->block);
}

struct field {
    const char *name;
    size_t offset, expected;
};

#define SIZE(type, expected) {"sizeof " #type, sizeof(type), expected}
#define FIELD(type, field, expected) {#type "." #field, offsetof(type, field), expected}

static void layouts_are_frozen(void)
{
    static const struct field fields[] = {
        SIZE(dockline_str, 16),
        FIELD(dockline_str, data, 0),
        FIELD(dockline_str, len, 8),
        SIZE(dockline_request_facts, 88),
        FIELD(dockline_request_facts, method, 0),
        FIELD(dockline_request_facts, target, 16),
        FIELD(dockline_request_facts, base, 32),
        FIELD(dockline_request_facts, upgrade, 48),
        FIELD(dockline_request_facts, connection, 64),
        FIELD(dockline_request_facts, version, 80),
        FIELD(dockline_request_facts, flags, 84),
        SIZE(dockline_request_plan, 24),
        FIELD(dockline_request_plan, kind, 0),
        FIELD(dockline_request_plan, send_upgrade, 4),
        FIELD(dockline_request_plan, whole_body_first, 8),
        FIELD(dockline_request_plan, refuse_status, 12),
        FIELD(dockline_request_plan, proposes_tunnel, 16),
        FIELD(dockline_request_plan, body_may_pause, 20),
        SIZE(dockline_response_facts, 40),
        FIELD(dockline_response_facts, content_type, 0),
        FIELD(dockline_response_facts, upgrade, 16),
        FIELD(dockline_response_facts, status, 32),
        FIELD(dockline_response_facts, flags, 36),
        SIZE(dockline_relay_options, 32),
        FIELD(dockline_relay_options, idle_ms, 0),
        FIELD(dockline_relay_options, linger_ms, 8),
        FIELD(dockline_relay_options, budget_bytes, 16),
        FIELD(dockline_relay_options, flags, 24),
        FIELD(dockline_relay_options, reserved, 28),
        SIZE(dockline_endpoint, 40),
        FIELD(dockline_endpoint, fd, 0),
        FIELD(dockline_endpoint, user, 8),
        FIELD(dockline_endpoint, read, 16),
        FIELD(dockline_endpoint, write, 24),
        FIELD(dockline_endpoint, shutdown_write, 32),
        SIZE(dockline_relay_wants, 16),
        FIELD(dockline_relay_wants, state, 0),
        FIELD(dockline_relay_wants, interest, 4),
        FIELD(dockline_relay_wants, deadline_ms, 8),
        SIZE(dockline_relay_stats, 72),
        FIELD(dockline_relay_stats, bytes_up, 0),
        FIELD(dockline_relay_stats, bytes_down, 8),
        FIELD(dockline_relay_stats, received_up, 16),
        FIELD(dockline_relay_stats, received_down, 24),
        FIELD(dockline_relay_stats, spliced_up, 32),
        FIELD(dockline_relay_stats, spliced_down, 40),
        FIELD(dockline_relay_stats, last_activity_ms, 48),
        FIELD(dockline_relay_stats, first_closer, 56),
        FIELD(dockline_relay_stats, close_reason, 60),
        FIELD(dockline_relay_stats, error_number, 64),
        FIELD(dockline_relay_stats, abort_sides, 68),
        SIZE(dockline_worker_options, 24),
        FIELD(dockline_worker_options, log, 0),
        FIELD(dockline_worker_options, log_user, 8),
        FIELD(dockline_worker_options, max_pipes, 16),
        FIELD(dockline_worker_options, pipe_bytes, 20),
        SIZE(dockline_field, 32),
        FIELD(dockline_field, name, 0),
        FIELD(dockline_field, value, 16),
        SIZE(dockline_request, 56),
        FIELD(dockline_request, method, 0),
        FIELD(dockline_request, target, 16),
        FIELD(dockline_request, fields, 32),
        FIELD(dockline_request, field_count, 40),
        FIELD(dockline_request, version, 48),
        FIELD(dockline_request, reserved, 52),
        SIZE(dockline_conn_options, 168),
        FIELD(dockline_conn_options, via, 0),
        FIELD(dockline_conn_options, base, 16),
        FIELD(dockline_conn_options, request_head_bytes, 32),
        FIELD(dockline_conn_options, request_line_bytes, 40),
        FIELD(dockline_conn_options, response_head_bytes, 48),
        FIELD(dockline_conn_options, held_bytes, 56),
        FIELD(dockline_conn_options, head_ms, 64),
        FIELD(dockline_conn_options, body_ms, 72),
        FIELD(dockline_conn_options, response_ms, 80),
        FIELD(dockline_conn_options, stream_idle_ms, 88),
        FIELD(dockline_conn_options, keep_alive_ms, 96),
        FIELD(dockline_conn_options, closing_ms, 104),
        FIELD(dockline_conn_options, connect_ms, 112),
        FIELD(dockline_conn_options, pool_ms, 120),
        FIELD(dockline_conn_options, tunnel_idle_ms, 128),
        FIELD(dockline_conn_options, requests, 136),
        FIELD(dockline_conn_options, fields, 140),
        FIELD(dockline_conn_options, pool_size, 144),
        FIELD(dockline_conn_options, flags, 148),
        FIELD(dockline_conn_options, trusted, 152),
        SIZE(dockline_client, 80),
        FIELD(dockline_client, ip, 0),
        FIELD(dockline_client, ip_len, 16),
        FIELD(dockline_client, port, 20),
        FIELD(dockline_client, flags, 24),
        FIELD(dockline_client, pid, 28),
        FIELD(dockline_client, uid, 32),
        FIELD(dockline_client, gid, 36),
        FIELD(dockline_client, listener, 40),
        FIELD(dockline_client, forwarded_for, 56),
        FIELD(dockline_client, forwarded_for_len, 72),
        FIELD(dockline_client, reserved, 76),
        SIZE(dockline_conn_event, 16),
        FIELD(dockline_conn_event, kind, 0),
        FIELD(dockline_conn_event, flags, 4),
        FIELD(dockline_conn_event, tunnel, 8),
        FIELD(dockline_conn_event, reserved, 12),
        SIZE(dockline_reply, 56),
        FIELD(dockline_reply, status, 0),
        FIELD(dockline_reply, reserved, 4),
        FIELD(dockline_reply, content_type, 8),
        FIELD(dockline_reply, body, 24),
        FIELD(dockline_reply, body_len, 32),
        FIELD(dockline_reply, fields, 40),
        FIELD(dockline_reply, field_count, 48),
        SIZE(dockline_conn_tunnel, 32),
        FIELD(dockline_conn_tunnel, from_downstream, 0),
        FIELD(dockline_conn_tunnel, from_downstream_len, 8),
        FIELD(dockline_conn_tunnel, from_upstream, 16),
        FIELD(dockline_conn_tunnel, from_upstream_len, 24),
        SIZE(dockline_failure, 32),
        FIELD(dockline_failure, side, 0),
        FIELD(dockline_failure, phase, 4),
        FIELD(dockline_failure, cause, 8),
        FIELD(dockline_failure, error_number, 12),
        FIELD(dockline_failure, tls_alert, 16),
        FIELD(dockline_failure, reserved, 20),
        FIELD(dockline_failure, offset, 24),
        SIZE(dockline_exchange_record, 152),
        FIELD(dockline_exchange_record, method, 0),
        FIELD(dockline_exchange_record, target, 16),
        FIELD(dockline_exchange_record, upstream, 32),
        FIELD(dockline_exchange_record, bytes_up, 48),
        FIELD(dockline_exchange_record, bytes_down, 56),
        FIELD(dockline_exchange_record, duration_us, 64),
        FIELD(dockline_exchange_record, head_us, 72),
        FIELD(dockline_exchange_record, status, 80),
        FIELD(dockline_exchange_record, end, 84),
        FIELD(dockline_exchange_record, tunnel, 88),
        FIELD(dockline_exchange_record, flags, 92),
        FIELD(dockline_exchange_record, failure, 96),
        SIZE(dockline_upstream_options, 56),
        FIELD(dockline_upstream_options, address, 0),
        FIELD(dockline_upstream_options, name, 16),
        FIELD(dockline_upstream_options, host, 32),
        FIELD(dockline_upstream_options, proxy_protocol, 48),
        FIELD(dockline_upstream_options, reserved, 52),
        FIELD(dockline_exchange_record, route, 128),
        FIELD(dockline_exchange_record, tunnel_id, 144),
        SIZE(dockline_rewrite, 48),
        FIELD(dockline_rewrite, target, 0),
        FIELD(dockline_rewrite, host, 16),
        FIELD(dockline_rewrite, fields, 32),
        FIELD(dockline_rewrite, field_count, 40),
        SIZE(dockline_tunnel_record, 160),
        FIELD(dockline_tunnel_record, method, 0),
        FIELD(dockline_tunnel_record, target, 16),
        FIELD(dockline_tunnel_record, upstream, 32),
        FIELD(dockline_tunnel_record, bytes_up, 48),
        FIELD(dockline_tunnel_record, bytes_down, 56),
        FIELD(dockline_tunnel_record, received_up, 64),
        FIELD(dockline_tunnel_record, received_down, 72),
        FIELD(dockline_tunnel_record, duration_us, 80),
        FIELD(dockline_tunnel_record, tunnel, 88),
        FIELD(dockline_tunnel_record, first_closer, 92),
        FIELD(dockline_tunnel_record, close_reason, 96),
        FIELD(dockline_tunnel_record, reserved, 100),
        FIELD(dockline_tunnel_record, failure, 104),
        FIELD(dockline_tunnel_record, route, 136),
        FIELD(dockline_tunnel_record, id, 152),
        SIZE(dockline_engine_options, 72),
        FIELD(dockline_engine_options, exchange_ended, 0),
        FIELD(dockline_engine_options, tunnel_ended, 8),
        FIELD(dockline_engine_options, log, 16),
        FIELD(dockline_engine_options, user, 24),
        FIELD(dockline_engine_options, connections, 32),
        FIELD(dockline_engine_options, linger_ms, 40),
        FIELD(dockline_engine_options, budget_bytes, 48),
        FIELD(dockline_engine_options, accepts, 56),
        FIELD(dockline_engine_options, max_pipes, 60),
        FIELD(dockline_engine_options, pipe_bytes, 64),
        FIELD(dockline_engine_options, flags, 68),
        SIZE(dockline_listener_options, 80),
        FIELD(dockline_listener_options, name, 0),
        FIELD(dockline_listener_options, route, 16),
        FIELD(dockline_listener_options, route_user, 24),
        FIELD(dockline_listener_options, upstream, 32),
        FIELD(dockline_listener_options, conn, 40),
        FIELD(dockline_listener_options, conn_size, 48),
        FIELD(dockline_listener_options, service, 56),
        FIELD(dockline_listener_options, reserved, 60),
        FIELD(dockline_listener_options, proxy_protocol, 64),
        SIZE(dockline_pair, 56),
        FIELD(dockline_pair, downstream_fd, 0),
        FIELD(dockline_pair, upstream_fd, 4),
        FIELD(dockline_pair, from_downstream, 8),
        FIELD(dockline_pair, from_downstream_len, 16),
        FIELD(dockline_pair, from_upstream, 24),
        FIELD(dockline_pair, from_upstream_len, 32),
        FIELD(dockline_pair, name, 40),
        SIZE(dockline_engine_stats, 112),
        FIELD(dockline_engine_stats, accepted, 0),
        FIELD(dockline_engine_stats, clients_now, 8),
        FIELD(dockline_engine_stats, requests, 16),
        FIELD(dockline_engine_stats, own_replies, 24),
        FIELD(dockline_engine_stats, tunnels, 32),
        FIELD(dockline_engine_stats, tunnels_now, 40),
        FIELD(dockline_engine_stats, tunnel_bytes_up, 48),
        FIELD(dockline_engine_stats, tunnel_bytes_down, 56),
        FIELD(dockline_engine_stats, connects, 64),
        FIELD(dockline_engine_stats, reuses, 72),
        FIELD(dockline_engine_stats, pooled_now, 80),
        FIELD(dockline_engine_stats, connect_failures, 88),
        FIELD(dockline_engine_stats, accept_pauses, 96),
        FIELD(dockline_engine_stats, panics, 104),
        SIZE(dockline_routes_options, 24),
        FIELD(dockline_routes_options, path, 0),
        FIELD(dockline_routes_options, check_ms, 16),
        SIZE(dockline_routes_state, 40),
        FIELD(dockline_routes_state, problem, 0),
        FIELD(dockline_routes_state, generation, 16),
        FIELD(dockline_routes_state, count, 24),
        FIELD(dockline_routes_state, loaded, 32),
        FIELD(dockline_routes_state, reserved, 36),
        SIZE(dockline_routes_target, 64),
        FIELD(dockline_routes_target, result, 0),
        FIELD(dockline_routes_target, strip, 4),
        FIELD(dockline_routes_target, upstream, 8),
        FIELD(dockline_routes_target, name, 24),
        FIELD(dockline_routes_target, prefix_len, 40),
        FIELD(dockline_routes_target, others, 48),
        FIELD(dockline_routes_target, other_count, 56),
    };
    if (sizeof(void *) != 8)
        return; /* the numbers above are those of 64-bit machines */
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        AT("%s", fields[i].name);
        CHECK_EQ(fields[i].offset, fields[i].expected);
    }
}

/* The three that write a struct, at every size from nothing to more than they know. */
static void structs_that_go_out(void)
{
    struct bed bed;
    dockline_request_facts facts;
    memset(&facts, 0, sizeof facts);
    facts.method = DOCKLINE_STR("POST");
    facts.target = DOCKLINE_STR("/exec/x/start");
    facts.version = DOCKLINE_HTTP_11;
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    dockline_relay_wants wants;
    dockline_relay_stats stats;
    dockline_request_plan plan;
    REQUIRE(dockline_relay_pump(bed.relay, 0, bed.now, &wants, sizeof wants) == DOCKLINE_OK);
    REQUIRE(dockline_relay_stats_get(bed.relay, &stats, sizeof stats) == DOCKLINE_OK);
    REQUIRE(dockline_request_plan_make(&facts, sizeof facts, &plan, sizeof plan) == DOCKLINE_OK);
    CHECK_EQ(plan.kind, DOCKLINE_REQUEST_SWITCH);
    const struct {
        const char *name;
        const void *value;
        size_t size;
    } results[] = {{"wants", &wants, sizeof wants}, {"stats", &stats, sizeof stats}, {"plan", &plan, sizeof plan}};
    for (int which = 0; which < 3; which++) {
        for (size_t size = 0; size < results[which].size + 40; size++) {
            for (size_t misaligned_by = 0; misaligned_by < 2; misaligned_by++) {
                struct guarded out = guarded_make(size, misaligned_by);
                void *to = out.bytes;
                dockline_status status = 0;
                AT("%s, %zu bytes, %zu off", results[which].name, size, misaligned_by);
                if (which == 0)
                    status = dockline_relay_pump(bed.relay, 0, bed.now, to, size);
                else if (which == 1)
                    status = dockline_relay_stats_get(bed.relay, to, size);
                else
                    status = dockline_request_plan_make(&facts, sizeof facts, to, size);
                if (size < results[which].size) {
                    CHECK_EQ(status, DOCKLINE_E_SIZE);
                    CHECK(is_all(out.bytes, PATTERN, size));
                } else {
                    CHECK_EQ(status, DOCKLINE_OK);
                    CHECK(memcmp(out.bytes, results[which].value, results[which].size) == 0);
                    CHECK(is_all(out.bytes + results[which].size, 0, size - results[which].size));
                }
                guarded_free(&out);
            }
        }
    }
    bed_close(&bed);
}

/* Copies a value between guards, with as many zeroes behind it as the size has room for. */
static struct guarded guarded_copy(const void *value, size_t len, size_t size, size_t misaligned_by)
{
    struct guarded guarded = guarded_make(size, misaligned_by);
    memset(guarded.bytes, 0, size);
    memcpy(guarded.bytes, value, size < len ? size : len);
    return guarded;
}

/* The rest take structs, of which they look at not a byte too many. */
static void structs_that_come_in(void)
{
    struct bed bed;
    dockline_request_facts request;
    dockline_response_facts response;
    dockline_worker_options bounds;
    dockline_relay_options options;
    dockline_endpoint endpoint;
    memset(&request, 0, sizeof request);
    memset(&response, 0, sizeof response);
    memset(&bounds, 0, sizeof bounds);
    memset(&options, 0, sizeof options);
    memset(&endpoint, 0, sizeof endpoint);
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    request.method = DOCKLINE_STR("GET");
    request.target = DOCKLINE_STR("/");
    request.version = DOCKLINE_HTTP_11;
    response.status = 200;
    endpoint.fd = bed.down;
    const struct {
        const char *name;
        const void *value;
        size_t size;
    } inputs[] = {
        {"request", &request, sizeof request}, {"response", &response, sizeof response},
        {"bounds", &bounds, sizeof bounds},    {"options", &options, sizeof options},
        {"endpoint", &endpoint, sizeof endpoint},
    };
    for (int which = 0; which < 5; which++) {
        for (size_t size = 0; size < inputs[which].size + 40; size++) {
            for (size_t misaligned_by = 0; misaligned_by < 2; misaligned_by++) {
                struct guarded in = guarded_copy(inputs[which].value, inputs[which].size, size, misaligned_by);
                const void *from = in.bytes;
                dockline_worker *worker = NULL;
                dockline_relay *relay = NULL;
                int32_t decision = -1;
                dockline_status status = 0;
                AT("%s, %zu bytes, %zu off", inputs[which].name, size, misaligned_by);
                switch (which) {
                case 0:
                    status = dockline_hijack_decide(from, size, &response, sizeof response, &decision);
                    break;
                case 1:
                    status = dockline_hijack_decide(&request, sizeof request, from, size, &decision);
                    break;
                case 2:
                    status = dockline_worker_new(from, size, &worker);
                    break;
                case 3:
                    status = dockline_relay_new(bed.worker, from, size, &endpoint, &endpoint, sizeof endpoint, 0,
                                                &relay);
                    break;
                default:
                    status = dockline_relay_new(bed.worker, NULL, 0, from, from, size, 0, &relay);
                }
                CHECK_EQ(status, size < inputs[which].size ? DOCKLINE_E_SIZE : DOCKLINE_OK);
                guarded_free(&in);
                dockline_worker_free(worker);
                dockline_relay_free(relay);
            }
        }
    }
    bed_close(&bed);
}

int main(void)
{
    layouts_are_frozen();
    structs_that_go_out();
    structs_that_come_in();
    return check_summary("structsize");
}
