/* SPDX-License-Identifier: MIT
 * What a host may decide about a request, at once or later; what is in flight, and how it is ended. */
#include "host.h"

/* Sends the request to an upstream that cannot be reached, and then to another one, with another head. */
static void on_detour(void *user, dockline_route *route)
{
    struct host *host = user;
    const dockline_str not_utf8 = {"\xff", 1};
    dockline_field field = {DOCKLINE_STR("X-Forwarded-Prefix"), DOCKLINE_STR("/shop")};
    dockline_rewrite rewrite = DOCKLINE_INIT;
    CHECK_EQ(dockline_route_add_upstream(route, host->upstream), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_name(route, DOCKLINE_STR("app")), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_rewrite(route, &rewrite, sizeof rewrite), DOCKLINE_E_STATE);
    REQUIRE_OK(dockline_route_upstream(route, host->dead));
    CHECK_EQ(dockline_route_add_upstream(route, NULL), DOCKLINE_E_NULL);
    for (int others = 0; others < 7; others++)
        REQUIRE_OK(dockline_route_add_upstream(route, others < 6 ? host->dead : host->upstream));
    CHECK_EQ(dockline_route_add_upstream(route, host->upstream), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_name(route, not_utf8), DOCKLINE_E_VALUE);
    REQUIRE_OK(dockline_route_name(route, DOCKLINE_STR("app")));
    CHECK_EQ(dockline_route_rewrite(route, NULL, sizeof rewrite), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_rewrite(route, &rewrite, 1), DOCKLINE_E_SIZE);
    rewrite.target = DOCKLINE_STR("list");
    CHECK_EQ(dockline_route_rewrite(route, &rewrite, sizeof rewrite), DOCKLINE_E_VALUE);
    rewrite.target = DOCKLINE_STR("/list");
    rewrite.host = DOCKLINE_STR("a b");
    CHECK_EQ(dockline_route_rewrite(route, &rewrite, sizeof rewrite), DOCKLINE_E_VALUE);
    rewrite.host = DOCKLINE_STR("shop:80");
    rewrite.field_count = 1;
    CHECK_EQ(dockline_route_rewrite(route, &rewrite, sizeof rewrite), DOCKLINE_E_NULL);
    rewrite.fields = &field;
    field.name = DOCKLINE_STR("content_length");
    CHECK_EQ(dockline_route_rewrite(route, &rewrite, sizeof rewrite), DOCKLINE_E_VALUE);
    field.name = DOCKLINE_STR("X-Forwarded-Prefix");
    REQUIRE_OK(dockline_route_rewrite(route, &rewrite, sizeof rewrite));
}

static void a_route_with_other_upstreams_and_another_head(void)
{
    static const char head[] = "POST /list HTTP/1.1\r\nHost: shop:80\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                               "X-Forwarded-Prefix: /shop\r\n\r\n";
    struct host host;
    dockline_upstream_options dead = DOCKLINE_INIT;
    uint16_t port, origin_port;
    char address[64];
    AT("a detour");
    int origin = listen_tcp(&origin_port);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", origin_port);
    host_open(&host, address, NULL);
    dead.address = DOCKLINE_STR("unix:///nowhere/at/all");
    REQUIRE_OK(dockline_upstream_new(&dead, sizeof dead, &host.dead));
    serve(&host, listen_tcp(&port), DOCKLINE_SERVICE_HTTP, on_detour);
    int client = dial_tcp(port);
    say(client, UPGRADE);
    while (!turn(&host, origin))
        continue;
    int daemon = accept4(origin, NULL, NULL, SOCK_CLOEXEC);
    REQUIRE(daemon >= 0);
    expect_bytes(&host, daemon, head);
    say(daemon, UPGRADED);
    expect_bytes(&host, client, UPGRADED);
    REQUIRE_OK(dockline_engine_kill_tunnel(host.engine, host.tunnel + 1));
    REQUIRE_OK(dockline_engine_kill_tunnel(host.engine, 0));
    turn(&host, -1);
    CHECK_EQ(stats_of(&host).tunnels_now, 1);
    REQUIRE_OK(dockline_engine_kill_tunnel(host.engine, host.tunnel));
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    CHECK(recv(client, address, 1, 0) == -1 && errno == ECONNRESET);
    CHECK_STR(host.records, "/exec/x/start 101 complete daemon, by app, "
                            "tunnel /exec/x/start 2 daemon up 0 down 0 killed");
    close(client);
    close(daemon);
    close(origin);
    dockline_upstream_free(host.dead);
    host_close(&host);
}

/* Lets the request wait. */
static void on_later(void *user, dockline_route *route)
{
    struct host *host = user;
    dockline_request request;
    dockline_reply reply = DOCKLINE_INIT;
    dockline_route *none = NULL;
    int32_t waiting = -1;
    host->later = NULL;
    reply.status = 600;
    CHECK_EQ(dockline_route_later(route, 1, &reply, sizeof reply, &none), DOCKLINE_E_VALUE);
    reply.status = 504;
    CHECK_EQ(dockline_route_later(route, 1, &reply, 1, &none), DOCKLINE_E_SIZE);
    CHECK_EQ(dockline_route_later(route, 1, NULL, 1, &none), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_later(route, 1, NULL, 0, NULL), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_is_waiting(route, &waiting), DOCKLINE_E_STATE);
    CHECK(none == NULL && waiting == -1);
    REQUIRE_OK(dockline_route_request(route, &request, sizeof request));
    if (is_text(request.target, "/soon"))
        REQUIRE_OK(dockline_route_later(route, 1, &reply, sizeof reply, &host->later));
    else if (is_text(request.target, "/default"))
        REQUIRE_OK(dockline_route_later(route, 0, NULL, 0, &host->later));
    else
        REQUIRE_OK(dockline_route_later(route, DOCKLINE_NO_DEADLINE, &reply, sizeof reply, &host->later));
    CHECK_EQ(dockline_route_name(route, DOCKLINE_STR("app")), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_decide(route), DOCKLINE_E_STATE);
    dockline_route_free(route); /* it is not the host's */
    if (is_text(request.target, "/at-once"))
        REQUIRE_OK(dockline_route_upstream(route, host->upstream));
}

static int is_waiting(dockline_route *later)
{
    int32_t waiting = -1;
    REQUIRE_OK(dockline_route_is_waiting(later, &waiting));
    CHECK(waiting == 0 || waiting == 1);
    return waiting;
}

static uint64_t requests_to(dockline_upstream *upstream)
{
    uint64_t requests = UINT64_MAX;
    REQUIRE_OK(dockline_upstream_in_flight(upstream, &requests, NULL));
    return requests;
}

static uint64_t tunnels_to(dockline_upstream *upstream)
{
    uint64_t tunnels = UINT64_MAX;
    REQUIRE_OK(dockline_upstream_in_flight(upstream, NULL, &tunnels));
    return tunnels;
}

/* Sends a request and waits until it was asked about. */
static void ask(struct host *host, int client, const char *request)
{
    host->later = NULL;
    say(client, request);
    while (host->later == NULL)
        turn(host, -1);
}

static void *decide(void *user)
{
    struct host *host = user;
    REQUIRE_OK(dockline_route_upstream(host->later, host->dead));
    REQUIRE_OK(dockline_route_add_upstream(host->later, host->upstream));
    REQUIRE_OK(dockline_route_name(host->later, DOCKLINE_STR("app")));
    REQUIRE_OK(dockline_route_decide(host->later));
    dockline_route_free(host->later);
    return NULL;
}

static void open_with_dead(struct host *host, const char *address)
{
    dockline_upstream_options dead = DOCKLINE_INIT;
    host_open(host, address, NULL);
    dead.address = DOCKLINE_STR("unix:///nowhere/at/all");
    REQUIRE_OK(dockline_upstream_new(&dead, sizeof dead, &host->dead));
}

static void a_decision_that_comes_later(const char *address)
{
    struct host host;
    dockline_request request;
    dockline_client client_info;
    dockline_reply reply = DOCKLINE_INIT;
    dockline_route *later = NULL;
    pthread_t thread;
    uint16_t port;
    open_with_dead(&host, address);
    serve(&host, listen_tcp(&port), DOCKLINE_SERVICE_HTTP, on_later);
    int client = dial_tcp(port);

    AT("on another thread");
    ask(&host, client, GET("/a"));
    CHECK_EQ(is_waiting(host.later), 1);
    CHECK_EQ(requests_to(host.upstream), 0);
    CHECK_EQ(dockline_route_client(host.later, &client_info, sizeof client_info), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_request(host.later, &request, sizeof request), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_later(host.later, 1, NULL, 0, &later), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_add_upstream(host.later, host.upstream), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_route_decide(host.later), DOCKLINE_E_STATE);
    REQUIRE(pthread_create(&thread, NULL, decide, &host) == 0);
    expect_bytes(&host, client, ANSWER);
    REQUIRE(pthread_join(thread, NULL) == 0);

    AT("with a reply");
    ask(&host, client, GET("/b"));
    reply.status = 204;
    REQUIRE_OK(dockline_route_reply(host.later, &reply, sizeof reply));
    CHECK_EQ(is_waiting(host.later), 1);
    REQUIRE_OK(dockline_route_decide(host.later));
    CHECK_EQ(is_waiting(host.later), 0);
    REQUIRE_OK(dockline_route_reply(host.later, &reply, sizeof reply));
    CHECK_EQ(dockline_route_decide(host.later), DOCKLINE_E_STATE);
    dockline_route_free(host.later);
    expect_bytes(&host, client, "HTTP/1.1 204 No Content\r\n\r\n");

    AT("freed without a decision");
    ask(&host, client, GET("/c"));
    dockline_route_free(host.later);
    expect_bytes(&host, client, "HTTP/1.1 503 Service Unavailable\r\n");
    close(client);

    AT("too late");
    client = dial_tcp(port);
    ask(&host, client, GET("/soon"));
    expect_bytes(&host, client, "HTTP/1.1 504 Gateway Timeout\r\n");
    CHECK_EQ(is_waiting(host.later), 0);
    REQUIRE_OK(dockline_route_upstream(host.later, host.upstream));
    REQUIRE_OK(dockline_route_decide(host.later));
    dockline_route_free(host.later);
    close(client);

    AT("the reply of the library");
    client = dial_tcp(port);
    ask(&host, client, GET("/default"));
    expect_bytes(&host, client, "HTTP/1.1 503 Service Unavailable\r\n");
    dockline_route_free(host.later);
    close(client);

    AT("the last decision counts");
    client = dial_tcp(port);
    ask(&host, client, GET("/at-once"));
    expect_bytes(&host, client, ANSWER);
    CHECK_EQ(is_waiting(host.later), 0);
    dockline_route_free(host.later);

    AT("a client that is gone");
    ask(&host, client, GET("/gone"));
    close_with_reset(client);
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    CHECK_EQ(is_waiting(host.later), 0);
    dockline_route_free(host.later);

    CHECK_STR(host.records, "/a 200 complete daemon, by app, /b 204 replied , /c 503 replied , /soon 504 replied , "
                            "/default 503 replied , /at-once 200 complete daemon again, "
                            "/gone 0 client-aborted , failed: 1 connect reset 104");

    AT("after the engine");
    client = dial_tcp(port);
    ask(&host, client, GET("/d"));
    dockline_engine_free(host.engine);
    host.engine = NULL;
    CHECK_EQ(is_waiting(host.later), 0);
    REQUIRE_OK(dockline_route_upstream(host.later, host.upstream));
    REQUIRE_OK(dockline_route_decide(host.later));
    dockline_route_free(host.later);
    close(client);
    dockline_upstream_free(host.dead);
    host_close(&host);
}

static void on_app(void *user, dockline_route *route)
{
    struct host *host = user;
    REQUIRE_OK(dockline_route_upstream(route, host->upstream));
    REQUIRE_OK(dockline_route_name(route, DOCKLINE_STR("app")));
}

/* Kills by the upstream or by the route; what goes to another upstream, or by another route, goes on. */
static void kill_app(struct host *host, int by_route)
{
    const dockline_str not_utf8 = {"\xff", 1};
    CHECK_EQ(dockline_engine_kill_upstream(host->engine, NULL), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_engine_kill_upstream(host->engine, (void *)host->engine), DOCKLINE_E_HANDLE);
    CHECK_EQ(dockline_engine_kill_route(host->engine, not_utf8), DOCKLINE_E_VALUE);
    REQUIRE_OK(dockline_engine_kill_upstream(host->engine, host->dead));
    REQUIRE_OK(dockline_engine_kill_route(host->engine, DOCKLINE_STR("ap")));
    REQUIRE_OK(dockline_engine_kill_route(host->engine, dockline_str_of(NULL)));
    turn(host, -1);
    CHECK_EQ(requests_to(host->upstream) + tunnels_to(host->upstream), 1);
    if (by_route)
        REQUIRE_OK(dockline_engine_kill_route(host->engine, DOCKLINE_STR("app")));
    else
        REQUIRE_OK(dockline_engine_kill_upstream(host->engine, host->upstream));
}

static void what_is_in_flight_is_killed(int by_route)
{
    struct host host;
    uint16_t port, origin_port;
    char address[64], byte;
    AT("kill by %s", by_route ? "route" : "upstream");
    int origin = listen_tcp(&origin_port);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", origin_port);
    open_with_dead(&host, address);
    serve(&host, listen_tcp(&port), DOCKLINE_SERVICE_HTTP, on_app);
    int client = dial_tcp(port);
    say(client, GET("/a"));
    while (!turn(&host, origin))
        continue;
    CHECK_EQ(requests_to(host.upstream), 1);
    CHECK_EQ(tunnels_to(host.upstream), 0);
    kill_app(&host, by_route);
    expect_bytes(&host, client, "HTTP/1.1 503 Service Unavailable\r\n");
    close(client);
    close(accept4(origin, NULL, NULL, SOCK_CLOEXEC));
    CHECK_EQ(requests_to(host.upstream), 0);

    client = dial_tcp(port);
    say(client, UPGRADE);
    while (!turn(&host, origin))
        continue;
    int daemon = accept4(origin, NULL, NULL, SOCK_CLOEXEC);
    REQUIRE(daemon >= 0);
    say(daemon, UPGRADED);
    expect_bytes(&host, client, UPGRADED);
    CHECK_EQ(requests_to(host.upstream), 0);
    CHECK_EQ(tunnels_to(host.upstream), 1);
    kill_app(&host, by_route);
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    CHECK(recv(client, &byte, 1, 0) == -1 && errno == ECONNRESET);
    CHECK_EQ(tunnels_to(host.upstream), 0);
    CHECK_STR(host.records, "/a 503 stopped daemon, by app, failed: 3 response-head killed 0, "
                            "/exec/x/start 101 complete daemon, by app, "
                            "tunnel /exec/x/start 2 daemon up 0 down 0 killed");
    close(client);
    close(daemon);
    close(origin);
    dockline_upstream_free(host.dead);
    host_close(&host);
}

int main(void)
{
    struct daemon daemon;
    int descriptors = open_descriptors();
    daemon_start(&daemon);
    a_route_with_other_upstreams_and_another_head();
    a_decision_that_comes_later(daemon.address);
    what_is_in_flight_is_killed(0);
    what_is_in_flight_is_killed(1);
    AT("descriptors");
    daemon_join(&daemon);
    CHECK_EQ(open_descriptors(), descriptors);
    return check_summary("routing");
}
