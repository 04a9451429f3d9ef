/* SPDX-License-Identifier: MIT
 * Every function for tunnels, called wrongly in every possible way: it returns an error and changes nothing.
 *
 *     misuse NAMES    a file with the exported functions, one a line; each has to be called here
 */
#include <limits.h>
#include <pthread.h>

#include "misuse.h"

static const char target[] = "/info";

static dockline_request_facts good_request(void)
{
    dockline_request_facts facts;
    memset(&facts, 0, sizeof facts);
    facts.method = DOCKLINE_STR("GET");
    facts.target = dockline_str_of(target);
    facts.version = DOCKLINE_HTTP_11;
    return facts;
}

static dockline_response_facts good_response(void)
{
    dockline_response_facts facts;
    memset(&facts, 0, sizeof facts);
    facts.status = 200;
    return facts;
}

static dockline_status plan(const dockline_request_facts *facts, size_t facts_size)
{
    dockline_request_plan out;
    memset(&out, 0x55, sizeof out);
    dockline_status status = CALL(dockline_request_plan_make, facts, facts_size, &out, sizeof out);
    CHECK_EQ(is_filled_with(&out, 0x55, sizeof out), status != DOCKLINE_OK);
    return status;
}

static dockline_status decide(const dockline_request_facts *request, size_t request_size,
                              const dockline_response_facts *response, size_t response_size)
{
    int32_t out = 0x55;
    dockline_status status = CALL(dockline_hijack_decide, request, request_size, response, response_size, &out);
    CHECK_EQ(out == 0x55, status != DOCKLINE_OK);
    return status;
}

static void decisions(void)
{
    dockline_request_facts request = good_request();
    dockline_response_facts response = good_response();
    union {
        dockline_request_facts request;
        dockline_response_facts response;
        dockline_request_plan plan;
        uint8_t bytes[sizeof(dockline_request_facts) + ROOM];
    } roomy;
    dockline_request_plan out;

    AT("decisions, NULL");
    CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_OK);
    CHECK_STATUS(plan(NULL, sizeof request), DOCKLINE_E_NULL);
    CHECK_STATUS(plan(NULL, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_request_plan_make, &request, sizeof request, NULL, sizeof out), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_request_plan_make, &request, sizeof request, NULL, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_request_plan_make, NULL, 0, NULL, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_OK);
    CHECK_STATUS(decide(NULL, sizeof request, &response, sizeof response), DOCKLINE_E_NULL);
    CHECK_STATUS(decide(&request, sizeof request, NULL, sizeof response), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_hijack_decide, &request, sizeof request, &response, sizeof response, NULL),
                 DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_hijack_decide, NULL, 0, NULL, 0, NULL), DOCKLINE_E_NULL);

    AT("decisions, size 0");
    CHECK_STATUS(plan(&request, 0), DOCKLINE_E_SIZE);
    CHECK_STATUS(decide(&request, 0, &response, sizeof response), DOCKLINE_E_SIZE);
    CHECK_STATUS(decide(&request, sizeof request, &response, 0), DOCKLINE_E_SIZE);
    memset(&out, 0x55, sizeof out);
    CHECK_STATUS(CALL(dockline_request_plan_make, &request, sizeof request, &out, 0), DOCKLINE_E_SIZE);
    CHECK(is_filled_with(&out, 0x55, sizeof out));

    for (size_t i = 0; i < LENGTH(sizes); i++) {
        const struct size_case *row = &sizes[i];
        AT("decisions, size: %s", row->name);
        put(&roomy, &request, sizeof request, row->tail_byte);
        CHECK_GIVES(plan(&roomy.request, size_of(row, sizeof request)), row->in);
        CHECK_GIVES(decide(&roomy.request, size_of(row, sizeof request), &response, sizeof response), row->in);
        put(&roomy, &response, sizeof response, row->tail_byte);
        CHECK_GIVES(decide(&request, sizeof request, &roomy.response, size_of(row, sizeof response)), row->in);
        memset(&roomy, 0x55, sizeof roomy);
        CHECK_GIVES(CALL(dockline_request_plan_make, &request, sizeof request, &roomy.plan, size_of(row, sizeof out)),
                    row->out);
        CHECK_EQ(is_filled_with(&roomy, 0x55, sizeof roomy), row->out != DOCKLINE_OK);
    }

    /* Text: NULL with a length, and a length that no object has. */
    const dockline_str dangling = {NULL, 1}, empty = {target, 0}, too_long = {target, SIZE_MAX};
    for (size_t i = 0; i < 5; i++) {
        dockline_str *const texts[] = {&request.method, &request.target, &request.base, &request.upgrade,
                                       &request.connection};
        AT("request text %zu", i);
        request = good_request();
        *texts[i] = dangling;
        CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_E_NULL);
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_NULL);
        *texts[i] = dockline_str_of(NULL);
        CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_OK);
        *texts[i] = empty;
        CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_OK);
        *texts[i] = too_long;
        CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_E_VALUE);
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
    }
    request = good_request();
    for (size_t i = 0; i < 2; i++) {
        dockline_str *text = i == 0 ? &response.content_type : &response.upgrade;
        AT("response text %zu", i);
        *text = dangling;
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_NULL);
        *text = too_long;
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
        response = good_response();
    }

    AT("request values");
    static const int32_t versions[] = {0, 1, 9, 12, 21, 31, -10, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < LENGTH(versions); i++) {
        request.version = versions[i];
        CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_E_VALUE);
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
    }
    request = good_request();
    static const uint32_t request_flags[] = {2, 3, UINT32_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < LENGTH(request_flags); i++) {
        request.flags = request_flags[i];
        CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_E_VALUE);
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
    }
    request = good_request();
    AT("response values");
    static const uint32_t response_flags[] = {4, 7, UINT32_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < LENGTH(response_flags); i++) {
        response.flags = response_flags[i];
        CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
    }
    response = good_response();
    response.status = 65536 + 200;
    CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
    response.status = UINT32_MAX;
    CHECK_STATUS(decide(&request, sizeof request, &response, sizeof response), DOCKLINE_E_VALUE);
}

static void workers(void)
{
    dockline_worker_options options;
    union {
        dockline_worker_options options;
        uint8_t bytes[sizeof(dockline_worker_options) + ROOM];
    } roomy;
    dockline_worker *const untouched = (dockline_worker *)(void *)&roomy;
    dockline_worker *worker = untouched;
    memset(&options, 0, sizeof options);

    AT("worker, NULL");
    CHECK_STATUS(CALL(dockline_worker_new, NULL, 0, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_worker_new, &options, sizeof options, NULL), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_worker_new, NULL, sizeof options, &worker), DOCKLINE_E_NULL);
    CHECK(worker == untouched);
    CALL(dockline_worker_free, NULL);

    AT("worker, size 0");
    CHECK_STATUS(CALL(dockline_worker_new, &options, 0, &worker), DOCKLINE_E_SIZE);
    CHECK(worker == untouched);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        AT("worker, size: %s", sizes[i].name);
        put(&roomy, &options, sizeof options, sizes[i].tail_byte);
        worker = untouched;
        CHECK_GIVES(CALL(dockline_worker_new, &roomy.options, size_of(&sizes[i], sizeof options), &worker),
                    sizes[i].in);
        CHECK_EQ(worker == untouched, sizes[i].in != DOCKLINE_OK);
        if (worker != untouched)
            CALL(dockline_worker_free, worker);
    }
    AT("worker, extreme bounds");
    options.max_pipes = UINT32_MAX;
    options.pipe_bytes = UINT32_MAX;
    CHECK_STATUS(CALL(dockline_worker_new, &options, sizeof options, &worker), DOCKLINE_OK);
    CALL(dockline_worker_free, worker);
}

/* What dockline_relay_new is given, and what else there is to give. */
struct parts {
    int ends[2], more[2];
    dockline_worker *worker;
    dockline_relay_options options;
    dockline_endpoint downstream, upstream;
    struct host_side host;
};

static void parts_make(struct parts *parts)
{
    memset(parts, 0, sizeof *parts);
    socket_pair(0, parts->ends);
    socket_pair(1, parts->more);
    REQUIRE(dockline_worker_new(NULL, 0, &parts->worker) == DOCKLINE_OK);
    parts->downstream.fd = parts->ends[0];
    parts->upstream.fd = parts->more[0];
}

static void parts_free(struct parts *parts)
{
    dockline_worker_free(parts->worker);
    for (int i = 0; i < 2; i++) {
        close(parts->ends[i]);
        close(parts->more[i]);
    }
}

/* Makes a relay of these parts and frees it. */
static dockline_status try_new(const struct parts *parts)
{
    static char here;
    dockline_relay *const untouched = (dockline_relay *)(void *)&here;
    dockline_relay *relay = untouched;
    dockline_status status = CALL(dockline_relay_new, parts->worker, &parts->options, sizeof parts->options,
                                  &parts->downstream, &parts->upstream, sizeof parts->downstream, 0, &relay);
    CHECK_EQ(relay == untouched, status != DOCKLINE_OK);
    if (status == DOCKLINE_OK)
        CALL(dockline_relay_free, relay);
    return status;
}

static void making_relays(void)
{
    struct parts parts;
    parts_make(&parts);
    union {
        dockline_relay_options options;
        dockline_endpoint endpoint;
        uint8_t bytes[sizeof(dockline_relay_options) + sizeof(dockline_endpoint) + ROOM];
    } roomy, roomy_up;
    dockline_relay *const untouched = (dockline_relay *)(void *)&roomy;
    dockline_relay *relay = untouched;
    dockline_relay_options *options = &parts.options;
    dockline_endpoint *down = &parts.downstream, *up = &parts.upstream;
    const size_t options_size = sizeof *options, endpoint_size = sizeof *down;

    AT("relay_new, NULL");
    CHECK_STATUS(try_new(&parts), DOCKLINE_OK);
    CHECK_STATUS(CALL(dockline_relay_new, NULL, options, options_size, down, up, endpoint_size, 0, &relay),
                 DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_new, parts.worker, NULL, options_size, down, up, endpoint_size, 0, &relay),
                 DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_new, parts.worker, NULL, 0, NULL, up, endpoint_size, 0, &relay),
                 DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_new, parts.worker, NULL, 0, down, NULL, endpoint_size, 0, &relay),
                 DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_new, parts.worker, NULL, 0, down, up, endpoint_size, 0, NULL),
                 DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_new, NULL, NULL, 0, NULL, NULL, 0, 0, NULL), DOCKLINE_E_NULL);

    AT("relay_new, size 0");
    CHECK_STATUS(CALL(dockline_relay_new, parts.worker, options, 0, down, up, endpoint_size, 0, &relay),
                 DOCKLINE_E_SIZE);
    CHECK_STATUS(CALL(dockline_relay_new, parts.worker, NULL, 0, down, up, 0, 0, &relay), DOCKLINE_E_SIZE);
    CHECK(relay == untouched);

    for (size_t i = 0; i < LENGTH(sizes); i++) {
        const struct size_case *row = &sizes[i];
        AT("relay_new, size of options: %s", row->name);
        put(&roomy, options, options_size, row->tail_byte);
        relay = untouched;
        CHECK_GIVES(CALL(dockline_relay_new, parts.worker, &roomy.options, size_of(row, options_size), down, up,
                         endpoint_size, 0, &relay),
                    row->in);
        CHECK_EQ(relay == untouched, row->in != DOCKLINE_OK);
        if (relay != untouched)
            CALL(dockline_relay_free, relay);
        AT("relay_new, size of endpoints: %s", row->name);
        put(&roomy, down, endpoint_size, row->tail_byte);
        put(&roomy_up, up, endpoint_size, row->tail_byte);
        relay = untouched;
        CHECK_GIVES(CALL(dockline_relay_new, parts.worker, NULL, 0, &roomy.endpoint, &roomy_up.endpoint,
                         size_of(row, endpoint_size), 0, &relay),
                    row->in);
        CHECK_EQ(relay == untouched, row->in != DOCKLINE_OK);
        if (relay != untouched)
            CALL(dockline_relay_free, relay);
    }
    AT("relay_new, a tail behind one endpoint only");
    for (int side = 0; side < 2; side++) {
        put(&roomy, down, endpoint_size, side == 0 ? 0x55 : 0);
        put(&roomy_up, up, endpoint_size, side == 1 ? 0x55 : 0);
        CHECK_STATUS(CALL(dockline_relay_new, parts.worker, NULL, 0, &roomy.endpoint, &roomy_up.endpoint,
                          endpoint_size + 8, 0, &relay),
                     DOCKLINE_E_SIZE);
    }

    AT("relay_new, values");
    static const uint32_t flags[] = {4, 7, UINT32_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < LENGTH(flags); i++) {
        options->flags = flags[i];
        CHECK_STATUS(try_new(&parts), DOCKLINE_E_VALUE);
    }
    options->flags = DOCKLINE_RELAY_NO_SPLICE | DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS;
    CHECK_STATUS(try_new(&parts), DOCKLINE_OK);
    options->reserved = 1;
    CHECK_STATUS(try_new(&parts), DOCKLINE_E_VALUE);
    options->reserved = 0;
    options->idle_ms = options->linger_ms = options->budget_bytes = UINT64_MAX;
    CHECK_STATUS(try_new(&parts), DOCKLINE_OK);
    memset(options, 0, options_size);

    int pipe_ends[2], datagrams[2];
    REQUIRE(pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, datagrams) == 0);
    int packets[2], blocking[2], file = open("/dev/null", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, packets) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, blocking) == 0);
    int closed = dup(file);
    REQUIRE(file >= 0 && closed >= 0);
    close(closed);
    const struct {
        const char *name;
        int fd;
        dockline_status plain, with_callbacks;
    } descriptors[] = {
        {"none", -1, DOCKLINE_E_VALUE, DOCKLINE_OK},
        {"-2", -2, DOCKLINE_E_VALUE, DOCKLINE_E_VALUE},
        {"INT_MIN", INT_MIN, DOCKLINE_E_VALUE, DOCKLINE_E_VALUE},
        {"closed", closed, DOCKLINE_E_SYSTEM, DOCKLINE_E_SYSTEM},
        {"never open", INT_MAX, DOCKLINE_E_SYSTEM, DOCKLINE_E_SYSTEM},
        {"pipe", pipe_ends[0], DOCKLINE_E_NOT_STREAM, DOCKLINE_E_NOT_STREAM},
        {"file", file, DOCKLINE_E_NOT_STREAM, DOCKLINE_E_NOT_STREAM},
        {"datagram", datagrams[0], DOCKLINE_E_NOT_STREAM, DOCKLINE_E_NOT_STREAM},
        {"packet", packets[0], DOCKLINE_E_NOT_STREAM, DOCKLINE_E_NOT_STREAM},
        {"blocking", blocking[0], DOCKLINE_E_BLOCKING, DOCKLINE_E_BLOCKING},
        {"good", parts.ends[1], DOCKLINE_OK, DOCKLINE_OK},
    };
    for (size_t i = 0; i < LENGTH(descriptors); i++) {
        for (int side = 0; side < 2; side++) {
            struct parts wrong = parts;
            dockline_endpoint *endpoint = side == 0 ? &wrong.downstream : &wrong.upstream;
            AT("relay_new, side %d, descriptor: %s", side, descriptors[i].name);
            endpoint->fd = descriptors[i].fd;
            errno = 0;
            CHECK_GIVES(try_new(&wrong), descriptors[i].plain);
            CHECK(errno == EBADF || descriptors[i].plain != DOCKLINE_E_SYSTEM);
            *endpoint = endpoint_of(UNIX_CALLBACKS, descriptors[i].fd, &wrong.host);
            CHECK_GIVES(try_new(&wrong), descriptors[i].with_callbacks);
            for (int set = 1; set < 7; set++) { /* some of the three callbacks */
                *endpoint = endpoint_of(UNIX_CALLBACKS, parts.ends[1], &wrong.host);
                endpoint->read = set & 1 ? endpoint->read : NULL;
                endpoint->write = set & 2 ? endpoint->write : NULL;
                endpoint->shutdown_write = set & 4 ? endpoint->shutdown_write : NULL;
                CHECK_STATUS(try_new(&wrong), DOCKLINE_E_NULL);
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        close(pipe_ends[i]);
        close(datagrams[i]);
        close(packets[i]);
        close(blocking[i]);
    }
    close(file);
    parts_free(&parts);
}

/* Calls everything that takes a relay; each call has to return the same. Frees nothing. */
static void every_call_answers(dockline_relay *relay, dockline_status expected)
{
    dockline_relay_wants wants;
    dockline_relay_stats stats;
    memset(&wants, 0x55, sizeof wants);
    memset(&stats, 0x55, sizeof stats);
    CHECK_GIVES(CALL(dockline_relay_prefill, relay, DOCKLINE_SIDE_DOWNSTREAM, target, 5), expected);
    CHECK_GIVES(CALL(dockline_relay_pump, relay, 0xff, 1000, &wants, sizeof wants), expected);
    CHECK_GIVES(CALL(dockline_relay_drain, relay, 1000), expected);
    CHECK_GIVES(CALL(dockline_relay_kill, relay), expected);
    CHECK_GIVES(CALL(dockline_relay_stats_get, relay, &stats, sizeof stats), expected);
    CHECK_GIVES(CALL(dockline_test_panic, relay), expected);
    CHECK(is_filled_with(&wants, 0x55, sizeof wants));
    CHECK(is_filled_with(&stats, 0x55, sizeof stats));
}

static void what_is_no_relay(void)
{
    struct bed bed;
    union {
        uint64_t numbers[32];
        uint8_t bytes[256];
    } memory;
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    void *const relay = bed.relay, *const worker = bed.worker;

    AT("NULL as a relay");
    every_call_answers(NULL, DOCKLINE_E_NULL);
    CALL(dockline_relay_free, NULL);
    AT("a worker as a relay");
    every_call_answers(worker, DOCKLINE_E_HANDLE);
    CALL(dockline_relay_free, worker);
    AT("memory as a relay");
    memset(&memory, 0, sizeof memory);
    every_call_answers((void *)&memory, DOCKLINE_E_HANDLE);
    CALL(dockline_relay_free, (void *)&memory);
    CALL(dockline_worker_free, (void *)&memory);
    memset(&memory, 0xff, sizeof memory);
    every_call_answers((void *)&memory, DOCKLINE_E_HANDLE);
    CALL(dockline_relay_free, (void *)&memory);
    CALL(dockline_worker_free, (void *)&memory);
    CHECK(is_filled_with(&memory, 0xff, sizeof memory));
    for (int shift = 1; shift < 8; shift++) {
        AT("a relay, %d bytes off", shift);
        void *off = (uint8_t *)relay + shift;
        every_call_answers(off, DOCKLINE_E_HANDLE);
        CALL(dockline_relay_free, off);
    }

    AT("a relay as a worker");
    dockline_relay *other = NULL;
    dockline_endpoint endpoint;
    memset(&endpoint, 0, sizeof endpoint);
    endpoint.fd = bed.down;
    CHECK_STATUS(CALL(dockline_relay_new, relay, NULL, 0, &endpoint, &endpoint, sizeof endpoint, 0, &other),
                 DOCKLINE_E_HANDLE);
    CHECK(other == NULL);
    CALL(dockline_worker_free, relay);

    AT("both go on");
    bed_settle(&bed);
    bed_exchange(&bed, 100, 100);
    bed_close(&bed);
}

static void using_relays(void)
{
    struct bed bed;
    union {
        dockline_relay_wants wants;
        dockline_relay_stats stats;
        uint8_t bytes[sizeof(dockline_relay_stats) + ROOM];
    } out;
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);

    AT("prefill");
    static const int32_t no_sides[] = {DOCKLINE_SIDE_NONE, 3, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < LENGTH(no_sides); i++) {
        CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, no_sides[i], target, 5), DOCKLINE_E_VALUE);
        CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, no_sides[i], NULL, 0), DOCKLINE_E_VALUE);
    }
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_UPSTREAM, NULL, 1), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_UPSTREAM, NULL, 0), DOCKLINE_OK);
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_UPSTREAM, target, SIZE_MAX),
                 DOCKLINE_E_VALUE);
    CHECK_STATUS(
        CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_UPSTREAM, target, (size_t)PTRDIFF_MAX + 1),
        DOCKLINE_E_VALUE);
    CHECK_EQ(bed_stats(&bed).received_up + bed_stats(&bed).received_down, 0);

    AT("pump");
    memset(&out, 0x55, sizeof out);
    CHECK_STATUS(CALL(dockline_relay_pump, bed.relay, 0, 0, NULL, sizeof out.wants), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_pump, bed.relay, 0, 0, NULL, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_pump, bed.relay, 0, 0, &out.wants, 0), DOCKLINE_E_SIZE);
    static const uint32_t no_ready[] = {0x100, 0x101, UINT32_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < LENGTH(no_ready); i++) {
        CHECK_STATUS(CALL(dockline_relay_pump, bed.relay, no_ready[i], 0, &out.wants, sizeof out.wants),
                     DOCKLINE_E_VALUE);
    }
    CHECK(is_filled_with(&out, 0x55, sizeof out));
    /* None of these was a pump. */
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_UPSTREAM, target, 5), DOCKLINE_OK);

    AT("stats_get");
    CHECK_STATUS(CALL(dockline_relay_stats_get, bed.relay, NULL, sizeof out.stats), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_stats_get, bed.relay, NULL, 0), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_stats_get, bed.relay, &out.stats, 0), DOCKLINE_E_SIZE);
    CHECK(is_filled_with(&out, 0x55, sizeof out));

    for (size_t i = 0; i < LENGTH(sizes); i++) {
        const struct size_case *row = &sizes[i];
        AT("pump, size: %s", row->name);
        memset(&out, 0x55, sizeof out);
        CHECK_GIVES(CALL(dockline_relay_pump, bed.relay, 0, 0, &out.wants, size_of(row, sizeof out.wants)), row->out);
        CHECK_EQ(is_filled_with(&out, 0x55, sizeof out), row->out != DOCKLINE_OK);
        AT("stats_get, size: %s", row->name);
        memset(&out, 0x55, sizeof out);
        CHECK_GIVES(CALL(dockline_relay_stats_get, bed.relay, &out.stats, size_of(row, sizeof out.stats)), row->out);
        CHECK_EQ(is_filled_with(&out, 0x55, sizeof out), row->out != DOCKLINE_OK);
    }

    AT("prefill after a pump");
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_DOWNSTREAM, target, 5), DOCKLINE_E_STATE);
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_DOWNSTREAM, NULL, 1), DOCKLINE_E_NULL);
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, 0, target, 5), DOCKLINE_E_VALUE);

    AT("a clock that jumps");
    static const uint64_t times[] = {UINT64_MAX, 0, UINT64_MAX / 2, 1, UINT64_MAX - 1};
    for (size_t i = 0; i < LENGTH(times); i++) {
        bed.now = times[i];
        CHECK_EQ(bed_pump(&bed, 0xff & ~(DOCKLINE_DOWNSTREAM_GONE | DOCKLINE_UPSTREAM_GONE)), DOCKLINE_RELAY_RUNNING);
        bed_send(&bed, bed.client, 1, i, 1);
        CHECK_EQ(bed_pump(&bed, DOCKLINE_DOWNSTREAM_READ), DOCKLINE_RELAY_RUNNING);
    }
    CHECK_STATUS(CALL(dockline_relay_drain, bed.relay, UINT64_MAX), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
    CHECK_STATUS(CALL(dockline_relay_kill, bed.relay), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
    AT("prefill after the end");
    CHECK_STATUS(CALL(dockline_relay_prefill, bed.relay, DOCKLINE_SIDE_DOWNSTREAM, target, 5), DOCKLINE_E_STATE);
    bed_close(&bed);
}

/* A host whose callbacks call back in: with the relay that runs, and with others. */
struct inside {
    struct bed *bed;
    dockline_relay *neighbour, *stranger; /* of the same worker, of another */
    int by_thread;
    int reached[4];
};

static void call_from_inside(struct inside *inside, int callback)
{
    static const char *const names[] = {"read", "write", "shutdown_write", "log"};
    dockline_relay_wants wants;
    dockline_relay_stats stats;
    inside->reached[callback]++;
    AT("from inside %s%s", names[callback], inside->by_thread ? ", another thread" : "");
    every_call_answers(inside->bed->relay, DOCKLINE_E_BUSY);
    if (!inside->by_thread)
        CALL(dockline_relay_free, inside->bed->relay);
    every_call_answers(inside->bed->relay, DOCKLINE_E_BUSY);
    /* Another relay of this worker cannot be pumped; other calls are allowed. */
    memset(&wants, 0x55, sizeof wants);
    CHECK_STATUS(CALL(dockline_relay_pump, inside->neighbour, 0, 1000, &wants, sizeof wants), DOCKLINE_E_BUSY);
    CHECK(is_filled_with(&wants, 0x55, sizeof wants));
    CHECK_STATUS(CALL(dockline_relay_stats_get, inside->neighbour, &stats, sizeof stats), DOCKLINE_OK);
    CHECK_STATUS(CALL(dockline_relay_drain, inside->neighbour, UINT64_MAX), DOCKLINE_OK);
    CHECK_STATUS(CALL(dockline_relay_prefill, inside->neighbour, DOCKLINE_SIDE_UPSTREAM, NULL, 0), DOCKLINE_OK);
    /* One of another worker, and what has no handle, are not concerned. */
    CHECK_STATUS(CALL(dockline_relay_pump, inside->stranger, 0, 1000, &wants, sizeof wants), DOCKLINE_OK);
    dockline_request_facts request = good_request();
    CHECK_STATUS(plan(&request, sizeof request), DOCKLINE_OK);
    CHECK_EQ(CALL_PLAIN(dockline_abi_version), DOCKLINE_ABI_VERSION);
}

struct job {
    struct inside *inside;
    int callback;
};

static void *call_from_a_thread(void *user)
{
    struct job *job = user;
    call_from_inside(job->inside, job->callback);
    return NULL;
}

static void call_back_in(struct inside *inside, int callback)
{
    struct job job = {inside, callback};
    pthread_t thread;
    if (!inside->by_thread) {
        call_from_inside(inside, callback);
        return;
    }
    REQUIRE(pthread_create(&thread, NULL, call_from_a_thread, &job) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
}

static int64_t read_inside(void *user, void *buf, size_t len)
{
    struct inside *inside = user;
    call_back_in(inside, 0);
    return host_read(&inside->bed->up_host, buf, len);
}

static int64_t write_inside(void *user, const void *buf, size_t len)
{
    struct inside *inside = user;
    call_back_in(inside, 1);
    return host_write(&inside->bed->up_host, buf, len);
}

static int32_t shutdown_inside(void *user)
{
    struct inside *inside = user;
    call_back_in(inside, 2);
    return host_shutdown(&inside->bed->up_host);
}

static void log_inside(void *user, int32_t level, dockline_str text)
{
    (void)level;
    (void)text;
    call_back_in(user, 3);
}

static void calls_from_inside_callbacks(int by_thread)
{
    struct bed bed, other;
    struct inside inside;
    dockline_worker_options bounds;
    memset(&inside, 0, sizeof inside);
    memset(&bounds, 0, sizeof bounds);
    inside.bed = &bed;
    inside.by_thread = by_thread;
    bounds.log = log_inside;
    bounds.log_user = &inside;
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, &bounds);
    bed_open(&other, UNIX_FD, UNIX_FD, NULL, NULL); /* closed before the first, as the counts want it */
    dockline_endpoint downstream = endpoint_of(UNIX_FD, bed.down, &bed.down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_FD, bed.up, &bed.up_host);
    inside.neighbour = bed.relay;
    inside.stranger = other.relay;
    upstream.user = &inside;
    upstream.read = read_inside;
    upstream.write = write_inside;
    upstream.shutdown_write = shutdown_inside;
    REQUIRE(dockline_relay_new(bed.worker, NULL, 0, &downstream, &upstream, sizeof upstream, bed.now, &bed.relay)
            == DOCKLINE_OK);
    bed_send(&bed, bed.client, 1, 0, 10);
    bed_send(&bed, bed.daemon, 2, 0, 10);
    bed_settle(&bed);
    AT("after calls from inside");
    bed_expect(&bed, bed.daemon, 1, 0, 10);
    bed_expect(&bed, bed.client, 2, 0, 10);
    shutdown(bed.client, SHUT_WR);
    bed_expect_end(&bed, bed.daemon, 0);
    bed.up_host.scripted = SCRIPTED_READ;
    bed.up_host.answer = DOCKLINE_IO_RESET;
    bed_pump(&bed, DOCKLINE_UPSTREAM_READ);
    bed_finish(&bed);
    AT("after calls from inside");
    for (int i = 0; i < 4; i++)
        CHECK(inside.reached[i] > 0);
    CHECK_EQ(bed_stats(&bed).close_reason, DOCKLINE_CLOSE_UPSTREAM_RESET);
    dockline_relay_free(inside.neighbour);
    bed_close(&other);
    bed_close(&bed);
}

/* Making relays and freeing others, the worker among them, is allowed inside a callback. */
static int64_t read_and_house_keep(void *user, void *buf, size_t len)
{
    struct inside *inside = user;
    dockline_endpoint downstream = endpoint_of(UNIX_FD, inside->bed->down, &inside->bed->down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_FD, inside->bed->up, &inside->bed->up_host);
    dockline_relay *relay = NULL;
    if (inside->reached[0]++ == 0) {
        CHECK_STATUS(CALL(dockline_relay_new, inside->bed->worker, NULL, 0, &downstream, &upstream, sizeof upstream,
                          1000, &relay),
                     DOCKLINE_OK);
        CALL(dockline_relay_free, relay);
        CALL(dockline_relay_free, inside->neighbour);
        CALL(dockline_worker_free, inside->bed->worker);
        inside->bed->worker = NULL;
    }
    return host_read(&inside->bed->up_host, buf, len);
}

static void house_keeping_inside_a_callback(void)
{
    struct bed bed;
    struct inside inside;
    AT("house-keeping inside a callback");
    memset(&inside, 0, sizeof inside);
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    dockline_endpoint downstream = endpoint_of(UNIX_FD, bed.down, &bed.down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_CALLBACKS, bed.up, &bed.up_host);
    inside.bed = &bed;
    inside.neighbour = bed.relay;
    upstream.user = &inside;
    upstream.read = read_and_house_keep;
    upstream.write = write_inside;
    upstream.shutdown_write = shutdown_inside;
    REQUIRE(dockline_relay_new(bed.worker, NULL, 0, &downstream, &upstream, sizeof upstream, bed.now, &bed.relay)
            == DOCKLINE_OK);
    bed_send(&bed, bed.daemon, 2, 0, 10);
    bed_settle(&bed);
    bed_expect(&bed, bed.client, 2, 0, 10);
    CHECK(bed.worker == NULL);
    bed_close(&bed);
}

static void a_panic_poisons_one_handle(void)
{
    struct bed bed;
    dockline_relay *neighbour = NULL;
    AT("panic");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    dockline_endpoint downstream = endpoint_of(UNIX_FD, bed.down, &bed.down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_FD, bed.up, &bed.up_host);
    REQUIRE(dockline_relay_new(bed.worker, NULL, 0, &downstream, &upstream, sizeof upstream, bed.now, &neighbour)
            == DOCKLINE_OK);
    fprintf(stderr, "(a panic is asked for:)\n");
    CHECK_STATUS(CALL(dockline_test_panic, bed.relay), DOCKLINE_E_PANIC);
    every_call_answers(bed.relay, DOCKLINE_E_POISONED);
    every_call_answers(bed.relay, DOCKLINE_E_POISONED);
    expect_silence(bed.client);
    CALL(dockline_relay_free, bed.relay);
    bed.relay = neighbour;
    bed_settle(&bed);
    bed_exchange(&bed, 1000, 1000);
    bed_close(&bed);
}

static void names(void)
{
    AT("names");
    CHECK(CALL(dockline_status_name, INT32_MIN) != NULL);
    CHECK(CALL(dockline_status_text, INT32_MIN) != NULL);
    CHECK(CALL(dockline_close_reason_name, INT32_MIN) != NULL);
    CHECK(CALL_PLAIN(dockline_version_string) != NULL);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: misuse NAMES\n");
        return 2;
    }
    int descriptors = open_descriptors();
    decisions();
    workers();
    making_relays();
    what_is_no_relay();
    using_relays();
    calls_from_inside_callbacks(0);
    calls_from_inside_callbacks(1);
    house_keeping_inside_a_callback();
    a_panic_poisons_one_handle();
    names();
    nothing_is_left_out(argv[1], 0);
    AT("descriptors");
    CHECK_EQ(open_descriptors(), descriptors);
    return check_summary("misuse");
}
