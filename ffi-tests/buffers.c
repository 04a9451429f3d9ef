/* SPDX-License-Identifier: MIT
 * What the host passes is borrowed for the call: it is overwritten and freed right after, and nothing
 * may change by that. */
#include "bed.h"

enum { LEN = 200000 };

/* A copy that dies with the call it was made for. */
static void *lend(const void *bytes, size_t len)
{
    void *copy = malloc(len == 0 ? 1 : len);
    REQUIRE(copy != NULL);
    memcpy(copy, bytes, len);
    return copy;
}

static void take_back(void *copy, size_t len)
{
    memset(copy, 0xDD, len);
    free(copy);
}

static void prefilled_bytes(void)
{
    static uint8_t early[LEN];
    struct bed bed;
    AT("prefill");
    bed_open(&bed, UNIX_FD, UNIX_CALLBACKS, NULL, NULL);
    for (size_t at = 0; at < LEN; at += LEN / 4) {
        noise_fill(1, at, early, LEN / 4);
        uint8_t *lent = lend(early, LEN / 4);
        CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, lent, LEN / 4), DOCKLINE_OK);
        CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, lent, LEN / 4), DOCKLINE_OK);
        take_back(lent, LEN / 4);
    }
    bed_settle(&bed);
    bed_expect(&bed, bed.daemon, 1, 0, LEN);
    bed_expect(&bed, bed.client, 1, 0, LEN);
    bed_close(&bed);
}

/* A relay keeps no pointer to what it was made of. */
static void structs(void)
{
    struct bed bed;
    dockline_worker_options bounds;
    dockline_relay_options options;
    memset(&bounds, 0, sizeof bounds);
    memset(&options, 0, sizeof options);
    options.idle_ms = 1000;
    AT("structs");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    dockline_relay_free(bed.relay);
    dockline_worker_free(bed.worker);
    dockline_endpoint downstream = endpoint_of(UNIX_CALLBACKS, bed.down, &bed.down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_FD, bed.up, &bed.up_host);
    dockline_worker_options *lent_bounds = lend(&bounds, sizeof bounds);
    dockline_relay_options *lent_options = lend(&options, sizeof options);
    dockline_endpoint *lent_down = lend(&downstream, sizeof downstream);
    dockline_endpoint *lent_up = lend(&upstream, sizeof upstream);
    REQUIRE(dockline_worker_new(lent_bounds, sizeof bounds, &bed.worker) == DOCKLINE_OK);
    take_back(lent_bounds, sizeof bounds);
    REQUIRE(dockline_relay_new(bed.worker, lent_options, sizeof options, lent_down, lent_up, sizeof downstream,
                               bed.now, &bed.relay)
            == DOCKLINE_OK);
    take_back(lent_options, sizeof options);
    take_back(lent_down, sizeof downstream);
    take_back(lent_up, sizeof upstream);
    /* Results are not kept, either. */
    for (int round = 0; round < 3; round++) {
        dockline_relay_wants *wants = malloc(sizeof *wants);
        REQUIRE(wants != NULL);
        CHECK_EQ(dockline_relay_pump(bed.relay, 0, bed.now, wants, sizeof *wants), DOCKLINE_OK);
        CHECK_EQ(wants->deadline_ms, bed.now + 1000);
        take_back(wants, sizeof *wants);
    }
    bed_exchange(&bed, LEN, LEN);
    bed_close(&bed);
}

static void text(void)
{
    static const char *const texts[] = {
        "POST", "/docker/v1.41/containers/x/attach?stdin=1", "/docker", "tcp", "keep-alive, Upgrade",
        "application/vnd.docker.raw-stream", "tcp",
    };
    dockline_str lent[7];
    AT("text");
    for (int round = 0; round < 3; round++) {
        dockline_request_facts *request = malloc(sizeof *request);
        dockline_response_facts *response = malloc(sizeof *response);
        REQUIRE(request != NULL && response != NULL);
        memset(request, 0, sizeof *request);
        memset(response, 0, sizeof *response);
        /* Not terminated: one byte too many is one byte outside the block. */
        for (int i = 0; i < 7; i++) {
            lent[i].len = strlen(texts[i]);
            lent[i].data = lend(texts[i], lent[i].len);
        }
        request->method = lent[0];
        request->target = lent[1];
        request->base = lent[2];
        request->upgrade = lent[3];
        request->connection = lent[4];
        request->version = DOCKLINE_HTTP_11;
        response->content_type = lent[5];
        response->upgrade = lent[6];
        response->status = round == 0 ? 101 : 200;
        dockline_request_plan plan;
        int32_t decision = -1;
        CHECK_EQ(dockline_request_plan_make(request, sizeof *request, &plan, sizeof plan), DOCKLINE_OK);
        CHECK_EQ(dockline_hijack_decide(request, sizeof *request, response, sizeof *response, &decision),
                 DOCKLINE_OK);
        for (int i = 0; i < 7; i++)
            take_back((char *)lent[i].data, lent[i].len);
        take_back(request, sizeof *request);
        take_back(response, sizeof *response);
        CHECK_EQ(plan.kind, DOCKLINE_REQUEST_SWITCH);
        CHECK_EQ(plan.send_upgrade, 1);
        CHECK_EQ(decision, round == 0 ? DOCKLINE_DECISION_TUNNEL_UPGRADE : DOCKLINE_DECISION_TUNNEL_RAW);
    }
}

/* What a callback is lent may not be kept by the host; the library may do with it what it likes. */
static int64_t scribbling_read(void *user, void *buf, size_t len)
{
    struct host_side *side = user;
    memset(buf, 0xDD, len); /* the whole buffer is the callback's for the call */
    return host_read(side, buf, len);
}

static void the_callback_s_buffer(void)
{
    struct bed bed;
    AT("callback's buffer");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    dockline_relay_free(bed.relay);
    dockline_endpoint downstream = endpoint_of(UNIX_CALLBACKS, bed.down, &bed.down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_CALLBACKS, bed.up, &bed.up_host);
    downstream.read = upstream.read = scribbling_read;
    bed.down_host.most = 1000;
    bed.up_host.most = 777;
    REQUIRE(dockline_relay_new(bed.worker, NULL, 0, &downstream, &upstream, sizeof downstream, bed.now, &bed.relay)
            == DOCKLINE_OK);
    bed_settle(&bed);
    /* Keystrokes, since a short count may end a turn. */
    for (uint64_t i = 0; i < 100; i++) {
        bed_send(&bed, bed.client, 1, i * 500, 500);
        bed_expect(&bed, bed.daemon, 1, i * 500, 500);
        bed_send(&bed, bed.daemon, 2, i * 500, 500);
        bed_expect(&bed, bed.client, 2, i * 500, 500);
    }
    bed_close(&bed);
}

int main(void)
{
    prefilled_bytes();
    structs();
    text();
    the_callback_s_buffer();
    return check_summary("buffers");
}
