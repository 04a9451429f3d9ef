/* SPDX-License-Identifier: MIT
 * The hijack decision through C: the cases of docs/HIJACK.md that two heads alone decide. */
#include "check.h"

#define RAW "application/vnd.docker.raw-stream"
#define MUX "application/vnd.docker.multiplexed-stream"
#define ATTACH "/v1.41/containers/x/attach?stdin=1&stdout=1&stream=1"
#define EXEC "/v1.41/exec/x/start"

enum { CL = DOCKLINE_RESPONSE_HAS_LENGTH, TE = DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING };

struct head {
    const char *method, *target;
    const char *connection, *upgrade;
    int32_t version; /* 0: HTTP/1.1 */
    uint32_t flags;
    const char *base;
};

static dockline_request_facts request_facts(const struct head *head)
{
    dockline_request_facts facts;
    memset(&facts, 0, sizeof facts);
    facts.method = dockline_str_of(head->method);
    facts.target = dockline_str_of(head->target);
    facts.base = dockline_str_of(head->base);
    facts.connection = dockline_str_of(head->connection);
    facts.upgrade = dockline_str_of(head->upgrade);
    facts.version = head->version == 0 ? DOCKLINE_HTTP_11 : head->version;
    facts.flags = head->flags;
    return facts;
}

struct plan_case {
    const char *name;
    struct head request;
    dockline_request_plan expected; /* kind, send_upgrade, whole_body_first, refuse_status, proposes_tunnel */
};

#define SWITCH DOCKLINE_REQUEST_SWITCH
#define COMMAND DOCKLINE_REQUEST_COMMAND
#define STREAM DOCKLINE_REQUEST_STREAM
#define ORDINARY DOCKLINE_REQUEST_ORDINARY

static const struct plan_case plans[] = {
    {"attach", {"POST", ATTACH, "Upgrade", "tcp", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"attach, upgrade not asked for", {"POST", ATTACH, NULL, NULL, 0, 0, NULL}, {SWITCH, 0, 1, 0, 1, 0}},
    {"attach, no Connection", {"POST", ATTACH, NULL, "websocket", 0, 0, NULL}, {SWITCH, 0, 1, 0, 1, 0}},
    {"attach, two Connection tokens", {"POST", ATTACH, "keep-alive, Upgrade", "tcp", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"attach, empty Connection", {"POST", ATTACH, "", "tcp", 0, 0, NULL}, {SWITCH, 0, 1, 0, 1, 0}},
    {"attach in HTTP/1.0", {"POST", ATTACH, "Upgrade", "tcp", DOCKLINE_HTTP_10, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"attach in HTTP/2", {"POST", ATTACH, NULL, NULL, DOCKLINE_HTTP_20, 0, NULL}, {ORDINARY, 0, 0, 501, 1, 0}},
    {"attach in HTTP/3", {"POST", ATTACH, NULL, NULL, DOCKLINE_HTTP_30, 0, NULL}, {ORDINARY, 0, 0, 501, 1, 0}},
    {"attach below a base", {"POST", "/docker" ATTACH, "Upgrade", "tcp", 0, 0, "/docker"}, {SWITCH, 1, 1, 0, 1, 0}},
    {"attach below another base", {"POST", "/other" ATTACH, "Upgrade", "tcp", 0, 0, "/docker"}, {ORDINARY, 0, 0, 0, 1, 0}},
    {"name with an escaped slash", {"POST", "/v1.41/containers/a%2Fb/attach", NULL, NULL, 0, 0, NULL}, {SWITCH, 0, 1, 0, 1, 0}},
    {"exec", {"POST", EXEC, "Upgrade", "tcp", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"attach by websocket", {"GET", "/containers/x/attach/ws", "upgrade", "websocket", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"buildkit session", {"POST", "/session", "Upgrade", "h2c", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"buildkit grpc", {"POST", "/v1.41/grpc", "Upgrade", "h2c", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"grpc, upgrade not asked for", {"POST", "/grpc", NULL, NULL, 0, 0, NULL}, {COMMAND, 0, 0, 0, 1, 0}},
    {"h2c where nobody looks into it", {"GET", "/info", "Upgrade, HTTP2-Settings", "h2c", 0, 0, NULL}, {COMMAND, 0, 0, 0, 0, 0}},
    {"websocket of some application", {"GET", "/app", "upgrade", "websocket", 0, 0, NULL}, {SWITCH, 1, 1, 0, 1, 0}},
    {"websocket or h2c", {"GET", "/app", "upgrade", "websocket, h2c", 0, 0, NULL}, {ORDINARY, 0, 0, 0, 1, 0}},
    {"logs", {"GET", "/v1.41/containers/x/logs?follow=1", NULL, NULL, 0, 0, NULL}, {STREAM, 0, 0, 0, 0, 0}},
    {"events", {"GET", "/events", NULL, NULL, 0, 0, NULL}, {STREAM, 0, 0, 0, 0, 0}},
    {"wait", {"POST", "/v1.41/containers/x/wait", NULL, NULL, 0, 0, NULL}, {STREAM, 0, 0, 0, 0, 0}},
    {"build", {"POST", "/build?version=2", NULL, NULL, 0, 0, NULL}, {STREAM, 0, 0, 0, 0, 1}},
    {"copy to a container", {"PUT", "/containers/x/archive?path=/", NULL, NULL, 0, 0, NULL}, {STREAM, 0, 0, 0, 0, 1}},
    {"copy from a container", {"GET", "/containers/x/archive?path=/", NULL, NULL, 0, 0, NULL}, {STREAM, 0, 0, 0, 0, 0}},
    {"prune", {"POST", "/images/prune", NULL, NULL, 0, 0, NULL}, {COMMAND, 0, 0, 0, 0, 0}},
    {"stop", {"POST", "/containers/x/stop?t=600", NULL, NULL, 0, 0, NULL}, {COMMAND, 0, 0, 0, 0, 0}},
    {"upgrade of what has no use for it", {"GET", "/info", "Upgrade", "tcp", 0, 0, NULL}, {COMMAND, 0, 0, 0, 1, 0}},
    {"create", {"POST", "/v1.41/containers/create", NULL, NULL, 0, 0, NULL}, {COMMAND, 0, 0, 0, 0, 0}},
    {"another application", {"GET", "/app/containers", NULL, NULL, 0, 0, NULL}, {ORDINARY, 0, 0, 0, 0, 0}},
    {"ping", {"HEAD", "/_ping", NULL, NULL, 0, 0, NULL}, {COMMAND, 0, 0, 0, 0, 0}},
    {"method in small letters", {"post", ATTACH, "Upgrade", "tcp", 0, 0, NULL}, {COMMAND, 0, 0, 0, 1, 0}},
    {"connect", {"CONNECT", "h:1", NULL, NULL, 0, 0, NULL}, {ORDINARY, 0, 0, 405, 1, 0}},
    {"connect, offered", {"CONNECT", "h:1", NULL, NULL, 0, DOCKLINE_ALLOW_CONNECT, NULL}, {SWITCH, 0, 0, 0, 1, 0}},
    {"no method, no target", {NULL, NULL, NULL, NULL, 0, 0, NULL}, {ORDINARY, 0, 0, 0, 0, 0}},
};

struct decide_case {
    const char *name;
    struct head request;
    uint32_t status;
    const char *content_type, *upgrade;
    uint32_t flags;
    int32_t expected;
};

#define MESSAGE DOCKLINE_DECISION_MESSAGE
#define INTERIM DOCKLINE_DECISION_INTERIM
#define UPGRADED DOCKLINE_DECISION_TUNNEL_UPGRADE
#define RAW_STREAM DOCKLINE_DECISION_TUNNEL_RAW
#define CONNECTED DOCKLINE_DECISION_TUNNEL_CONNECT
#define REFUSE DOCKLINE_DECISION_REFUSE

#define ASKED(target) {"POST", target, "Upgrade", "tcp", 0, 0, NULL}
#define BARE(target) {"POST", target, NULL, NULL, 0, 0, NULL}

static const struct decide_case decisions[] = {
    {"1: attach, asked", ASKED(ATTACH), 101, RAW, "tcp", 0, UPGRADED},
    {"1: exec, asked, multiplexed", ASKED(EXEC), 101, MUX, "tcp", 0, UPGRADED},
    {"2: attach, not asked", BARE(ATTACH), 200, RAW, NULL, 0, RAW_STREAM},
    {"2: the same, multiplexed", BARE(ATTACH), 200, MUX, NULL, 0, RAW_STREAM},
    {"2: type in other letters, with a parameter", BARE(ATTACH), 200, "Application/VND.docker.Raw-Stream; x=y", NULL, 0, RAW_STREAM},
    {"3: HTTP/1.0", {"POST", ATTACH, NULL, NULL, DOCKLINE_HTTP_10, 0, NULL}, 200, RAW, NULL, 0, RAW_STREAM},
    {"4: HTTP/1.0, asked", {"POST", ATTACH, "Upgrade", "tcp", DOCKLINE_HTTP_10, 0, NULL}, 101, RAW, "tcp", 0, UPGRADED},
    {"5: upgrade without Connection, 200", {"POST", ATTACH, NULL, "websocket", 0, 0, NULL}, 200, RAW, NULL, 0, RAW_STREAM},
    {"5: upgrade without Connection, 101", {"POST", ATTACH, NULL, "websocket", 0, 0, NULL}, 101, RAW, "tcp", 0, REFUSE},
    {"6: two Connection tokens", {"POST", ATTACH, "keep-alive, Upgrade", "tcp", 0, 0, NULL}, 101, RAW, "tcp", 0, UPGRADED},
    {"7: unknown container", ASKED(ATTACH), 404, RAW, NULL, 0, MESSAGE},
    {"8: paused", ASKED(ATTACH), 409, RAW, NULL, 0, MESSAGE},
    {"9: bad detachKeys", BARE(ATTACH), 400, RAW, NULL, 0, MESSAGE},
    {"10: bad version", ASKED("/v1.99/containers/x/attach"), 400, "application/json", NULL, CL, MESSAGE},
    {"11: unknown exec", ASKED(EXEC), 404, "application/json", NULL, CL, MESSAGE},
    {"12: detached exec", ASKED(EXEC), 200, NULL, NULL, CL, MESSAGE},
    {"12: detached exec, no length", ASKED(EXEC), 200, NULL, NULL, 0, MESSAGE},
    {"16: exec, not asked", BARE(EXEC), 200, RAW, NULL, 0, RAW_STREAM},
    {"asked, but somebody ate the Upgrade", ASKED(EXEC), 200, RAW, NULL, 0, RAW_STREAM},
    {"asked for websocket, dockerd says tcp", {"POST", ATTACH, "Upgrade", "websocket", 0, 0, NULL}, 101, RAW, "tcp", 0, UPGRADED},
    {"25: logs", {"GET", "/v1.41/containers/x/logs?follow=1", NULL, NULL, 0, 0, NULL}, 200, MUX, NULL, TE, MESSAGE},
    {"26: logs with Upgrade", {"GET", "/v1.41/containers/x/logs", "Upgrade", "tcp", 0, 0, NULL}, 200, MUX, NULL, TE, MESSAGE},
    {"27: logs from an HTTP/1.0 upstream", {"GET", "/v1.41/containers/x/logs", NULL, NULL, 0, 0, NULL}, 200, RAW, NULL, 0, MESSAGE},
    {"28: service logs", {"GET", "/services/x/logs", NULL, NULL, 0, 0, NULL}, 200, MUX, NULL, TE, MESSAGE},
    {"29: 101 that nobody asked for", {"GET", "/info", NULL, NULL, 0, 0, NULL}, 101, NULL, "tcp", 0, REFUSE},
    {"30: continue", ASKED(EXEC), 100, NULL, NULL, 0, INTERIM},
    {"early hints", ASKED(EXEC), 103, NULL, NULL, 0, INTERIM},
    {"32: length", BARE(EXEC), 200, RAW, NULL, CL, MESSAGE},
    {"33: chunked", BARE(EXEC), 200, RAW, NULL, TE, MESSAGE},
    {"58: session", {"POST", "/session", "Upgrade", "h2c", 0, 0, NULL}, 101, NULL, "h2c", 0, UPGRADED},
    {"59: grpc, another protocol than offered", {"POST", "/grpc", "Upgrade", "h2c", 0, 0, NULL}, 101, NULL, "tcp", 0, REFUSE},
    {"60: grpc without Upgrade", BARE("/grpc"), 500, "application/json", NULL, CL, MESSAGE},
    {"62: attach by websocket", {"GET", "/containers/x/attach/ws", "Upgrade", "websocket", 0, 0, NULL}, 101, NULL, "WebSocket", 0, UPGRADED},
    {"68: h2c where nobody looks into it", {"GET", "/info", "Upgrade, HTTP2-Settings", "h2c", 0, 0, NULL}, 101, NULL, "h2c", 0, REFUSE},
    {"attach in HTTP/2", {"POST", ATTACH, NULL, NULL, DOCKLINE_HTTP_20, 0, NULL}, 200, RAW, NULL, 0, MESSAGE},
    {"connect, not offered", {"CONNECT", "h:1", NULL, NULL, 0, 0, NULL}, 200, NULL, NULL, 0, MESSAGE},
    {"connect", {"CONNECT", "h:1", NULL, NULL, 0, DOCKLINE_ALLOW_CONNECT, NULL}, 200, NULL, NULL, CL, CONNECTED},
    {"connect fails", {"CONNECT", "h:1", NULL, NULL, 0, DOCKLINE_ALLOW_CONNECT, NULL}, 403, NULL, NULL, 0, MESSAGE},
    {"no response: 0", BARE(EXEC), 0, RAW, NULL, 0, REFUSE},
    {"no response: 99", BARE(EXEC), 99, RAW, NULL, 0, REFUSE},
    {"no response: 600", BARE(EXEC), 600, RAW, NULL, 0, REFUSE},
    {"no response: 65535", BARE(EXEC), 65535, RAW, NULL, 0, REFUSE},
};

int main(void)
{
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        const struct plan_case *row = &plans[i];
        dockline_request_facts request = request_facts(&row->request);
        dockline_request_plan plan;
        memset(&plan, 0x55, sizeof plan);
        AT("plan: %s", row->name);
        CHECK_EQ(dockline_request_plan_make(&request, sizeof request, &plan, sizeof plan), DOCKLINE_OK);
        CHECK_EQ(plan.kind, row->expected.kind);
        CHECK_EQ(plan.send_upgrade, row->expected.send_upgrade);
        CHECK_EQ(plan.whole_body_first, row->expected.whole_body_first);
        CHECK_EQ(plan.refuse_status, row->expected.refuse_status);
        CHECK_EQ(plan.proposes_tunnel, row->expected.proposes_tunnel);
        CHECK_EQ(plan.body_may_pause, row->expected.body_may_pause);
    }
    for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++) {
        const struct decide_case *row = &decisions[i];
        dockline_request_facts request = request_facts(&row->request);
        dockline_response_facts response;
        memset(&response, 0, sizeof response);
        response.status = row->status;
        response.flags = row->flags;
        response.content_type = dockline_str_of(row->content_type);
        response.upgrade = dockline_str_of(row->upgrade);
        int32_t decision = -1;
        AT("decide: %s", row->name);
        CHECK_EQ(dockline_hijack_decide(&request, sizeof request, &response, sizeof response, &decision),
                 DOCKLINE_OK);
        CHECK_EQ(decision, row->expected);
    }
    return check_summary("hijack");
}
