/* SPDX-License-Identifier: MIT
 * dockline_engine, nested in a poll(2) loop and on a thread of its own. */
#include "host.h"

/* Replies to "/deny", decides nothing for "/nothing", sends the rest on. Calls back in, which has to be refused. */
static void on_route(void *user, dockline_route *route)
{
    struct host *host = user;
    dockline_request request;
    dockline_client client;
    dockline_engine_stats stats;
    dockline_reply reply;
    uint64_t timeout_ms;
    host->routed++;
    CHECK_EQ(dockline_engine_poll(host->engine, 0, NULL), DOCKLINE_E_BUSY);
    CHECK_EQ(dockline_engine_run(host->engine), DOCKLINE_E_BUSY);
    CHECK_EQ(dockline_engine_timeout_ms(host->engine, &timeout_ms), DOCKLINE_E_BUSY);
    dockline_engine_free(host->engine);
    CHECK_EQ(dockline_engine_wake(host->engine), DOCKLINE_OK);
    CHECK_EQ(dockline_engine_stats_get(host->engine, &stats, sizeof stats), DOCKLINE_OK);
    CHECK_EQ(dockline_route_client(route, NULL, sizeof client), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_client(route, &client, 1), DOCKLINE_E_SIZE);
    CHECK_EQ(dockline_route_request(route, NULL, sizeof request), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_request(route, &request, 1), DOCKLINE_E_SIZE);
    CHECK_EQ(dockline_route_upstream(route, NULL), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_upstream(route, (void *)host->engine), DOCKLINE_E_HANDLE);
    CHECK_EQ(dockline_route_reply(route, NULL, sizeof reply), DOCKLINE_E_NULL);
    CHECK_EQ(dockline_route_upstream((void *)host->engine, host->upstream), DOCKLINE_E_HANDLE);

    REQUIRE_OK(dockline_route_client(route, &client, sizeof client));
    CHECK_EQ(client.ip_len, 4);
    CHECK(client.port != 0);
    REQUIRE_OK(dockline_route_request(route, &request, sizeof request));
    if (is_text(request.target, "/nothing"))
        return;
    REQUIRE_OK(dockline_route_upstream(route, host->upstream));
    if (!is_text(request.target, "/deny"))
        return;
    char body[] = "not here";
    memset(&reply, 0, sizeof reply);
    reply.status = 403;
    reply.body = body;
    reply.body_len = 8;
    REQUIRE_OK(dockline_route_reply(route, &reply, sizeof reply));
    memset(body, 0xDD, sizeof body);
}

static void http_in_a_loop_of_the_host(const char *upstream, const char *spare)
{
    struct host host;
    uint16_t port;
    AT("http, %s", upstream);
    host_open(&host, upstream, spare);
    uint64_t listener = serve(&host, listen_tcp(&port), DOCKLINE_SERVICE_HTTP, on_route);
    CHECK_EQ(listener, 1);
    CHECK_EQ(dockline_upstream_add_address(host.upstream, DOCKLINE_STR("unix:///a")), DOCKLINE_OK);
    int client = dial_tcp(port);
    say(client, GET("/a"));
    expect_bytes(&host, client, ANSWER);
    CHECK_EQ(dockline_upstream_add_address(host.upstream, DOCKLINE_STR("unix:///a")), DOCKLINE_E_STATE);
    say(client, GET("/deny") GET("/b") GET("/nothing"));
    expect_bytes(&host, client,
                 "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n"
                 "{\"message\":\"not here\"}\n" ANSWER "HTTP/1.1 500 Internal Server Error\r\n");
    say(client, UPGRADE "hello");
    expect_bytes(&host, client,
                 "Content-Type: application/json\r\nContent-Length: 54\r\n\r\n"
                 "{\"message\":\"the proxy has no route for this request\"}\n" UPGRADED "hello");
    CHECK_EQ(stats_of(&host).tunnels_now, 1);
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    expect_bytes(&host, client, "bye");
    expect_end(&host, client);
    close(client);
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    CHECK_STR(host.records, "/a 200 complete daemon, /deny 403 replied , /b 200 complete daemon again, "
                            "/nothing 500 replied , /exec/x/start 101 complete daemon, "
                            "tunnel /exec/x/start 2 daemon up 5 down 8 eof");
    CHECK_STR(host.listener, "front");
    CHECK_STR(host.address, "127.0.0.1");
    CHECK_EQ(host.routed, 5);
    CHECK_EQ(spare != NULL, strstr(host.log, "1 upstream \"daemon\" at ") == host.log);
    dockline_engine_stats stats = stats_of(&host);
    CHECK_EQ(stats.accepted, 1);
    CHECK_EQ(stats.requests, 5);
    CHECK_EQ(stats.own_replies, 2);
    CHECK_EQ(stats.tunnels, 1);
    CHECK_EQ(stats.connects, 2);
    CHECK_EQ(stats.reuses, 1);
    CHECK_EQ(stats.tunnel_bytes_up, 5);
    CHECK_EQ(stats.tunnel_bytes_down, 8);

    REQUIRE_OK(dockline_engine_close_listener(host.engine, listener));
    CHECK_EQ(dockline_engine_close_listener(host.engine, listener), DOCKLINE_E_VALUE);
    turn(&host, -1);
    CHECK_EQ(dial_tcp(port), -1);
    host_close(&host);
}

static void bytes_are_forwarded(const char *upstream)
{
    char path[] = "/tmp/dockline-engine.XXXXXX";
    struct sockaddr_un address;
    struct host host;
    char expected[64];
    AT("forward");
    host_open(&host, upstream, NULL);
    REQUIRE(mkdtemp(path) != NULL);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    serve(&host, listener, DOCKLINE_SERVICE_FORWARD, NULL);
    REQUIRE(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    say(client, GET("/a") UPGRADE "raw");
    expect_bytes(&host, client, ANSWER UPGRADED "raw");
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    expect_bytes(&host, client, "bye");
    expect_end(&host, client);
    close(client);
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    snprintf(expected, sizeof expected, "tunnel  0 daemon up %zu down %zu eof", strlen(GET("/a") UPGRADE "raw"),
             strlen(ANSWER UPGRADED "rawbye"));
    CHECK_STR(host.records, expected);
    snprintf(expected, sizeof expected, "uid %u", (unsigned)getuid());
    CHECK_STR(host.address, expected);
    host_close(&host);
    unlink(address.sun_path);
    CHECK_EQ(rmdir(path), 0);
}

static void pairs_are_adopted(void)
{
    struct host host;
    dockline_pair pair;
    int client[2], daemon[2];
    AT("a pair");
    host_open(&host, "unix:///nowhere", NULL);
    socket_pair(1, client);
    socket_pair(0, daemon);
    memset(&pair, 0, sizeof pair);
    pair.downstream_fd = client[1];
    pair.upstream_fd = daemon[1];
    pair.from_downstream = "early up";
    pair.from_downstream_len = 8;
    pair.from_upstream = "early down";
    pair.from_upstream_len = 10;
    pair.name = DOCKLINE_STR("mine");
    REQUIRE_OK(dockline_engine_adopt_pair(host.engine, &pair, sizeof pair));
    say(client[0], ", late up");
    say(daemon[0], ", late down");
    expect_bytes(&host, client[0], "early down, late down");
    expect_bytes(&host, daemon[0], "early up, late up");
    shutdown(client[0], SHUT_WR);
    expect_end(&host, daemon[0]);
    close(daemon[0]);
    expect_end(&host, client[0]);
    close(client[0]);
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    CHECK_STR(host.records, "tunnel  0 mine up 17 down 21 eof");
    CHECK_STR(host.address, "nowhere");

    AT("a pair, wrongly");
    socket_pair(1, client);
    memset(&pair, 0, sizeof pair);
    pair.downstream_fd = pair.upstream_fd = client[0];
    CHECK_EQ(dockline_engine_adopt_pair(host.engine, &pair, sizeof pair), DOCKLINE_E_VALUE);
    pair.upstream_fd = -1;
    CHECK_EQ(dockline_engine_adopt_pair(host.engine, &pair, sizeof pair), DOCKLINE_E_VALUE);
    pair.upstream_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_EQ(dockline_engine_adopt_pair(host.engine, &pair, sizeof pair), DOCKLINE_E_NOT_STREAM);
    close(pair.upstream_fd);
    CHECK_EQ(dockline_engine_adopt_pair(host.engine, &pair, sizeof pair), DOCKLINE_E_SYSTEM);
    pair.upstream_fd = client[1];
    uint8_t *much = calloc(1, 1024 * 1024 + 1);
    pair.from_upstream = much;
    pair.from_upstream_len = 1024 * 1024 + 1;
    CHECK_EQ(dockline_engine_adopt_pair(host.engine, &pair, sizeof pair), DOCKLINE_E_LIMIT);
    free(much);
    CHECK_EQ(close(client[0]), 0); /* they are ours still */
    CHECK_EQ(close(client[1]), 0);
    host_close(&host);
}

static void *run(void *user)
{
    struct host *host = user;
    return (void *)(intptr_t)dockline_engine_run(host->engine);
}

static void stopped_from_another_thread(const char *upstream, int kill)
{
    struct host host;
    dockline_listener_options options;
    pthread_t thread;
    void *status;
    uint16_t port, unused;
    char got[256];
    AT("%s from another thread", kill ? "kill" : "stop");
    host_open(&host, upstream, NULL);
    serve(&host, listen_tcp(&port), DOCKLINE_SERVICE_HTTP, NULL);
    REQUIRE(pthread_create(&thread, NULL, run, &host) == 0);
    int client = dial_tcp(port), idle = dial_tcp(port);
    say(client, UPGRADE "x");
    REQUIRE(recv(client, got, strlen(UPGRADED "x"), MSG_WAITALL) == (ssize_t)strlen(UPGRADED "x"));
    CHECK_EQ(stats_of(&host).tunnels_now, 1);
    /* What waits in the backlog is not idle, but refused. */
    for (int round = 0; stats_of(&host).accepted < 2; round++) {
        REQUIRE(round < PATIENCE_MS);
        poll(NULL, 0, 1);
    }
    REQUIRE_OK(dockline_engine_wake(host.engine));
    REQUIRE_OK(kill ? dockline_engine_kill(host.engine) : dockline_engine_stop(host.engine, DOCKLINE_NO_DEADLINE));
    CHECK_EQ(recv(idle, got, 1, 0), 0);
    if (!kill) {
        say(client, "y"); /* the tunnel continues */
        CHECK(recv(client, got, 1, 0) == 1 && got[0] == 'y');
        shutdown(client, SHUT_WR);
        CHECK(recv(client, got, 3, MSG_WAITALL) == 3 && memcmp(got, "bye", 3) == 0);
    }
    CHECK(recv(client, got, 1, 0) <= 0);
    REQUIRE(pthread_join(thread, &status) == 0);
    CHECK_EQ((intptr_t)status, DOCKLINE_OK);
    CHECK_EQ(dial_tcp(port), -1);
    int32_t state = -1;
    REQUIRE_OK(dockline_engine_poll(host.engine, DOCKLINE_NO_DEADLINE, &state));
    CHECK_EQ(state, DOCKLINE_ENGINE_DONE);
    memset(&options, 0, sizeof options);
    options.upstream = host.upstream;
    int fd = listen_tcp(&unused);
    CHECK_EQ(dockline_engine_adopt_listener(host.engine, fd, &options, sizeof options, NULL), DOCKLINE_E_STATE);
    CHECK_EQ(close(fd), 0);
    close(client);
    close(idle);
    host_close(&host);
}

static void an_upstream_that_cannot_be_reached(void)
{
    struct host host;
    uint16_t port;
    AT("unreachable");
    host_open(&host, "unix:///nowhere/at/all", NULL);
    serve(&host, listen_tcp(&port), DOCKLINE_SERVICE_HTTP, NULL);
    int client = dial_tcp(port);
    say(client, GET("/a"));
    expect_bytes(&host, client, "HTTP/1.1 502 Bad Gateway\r\n");
    close(client);
    while (stats_of(&host).clients_now != 0)
        turn(&host, -1);
    CHECK_STR(host.records, "/a 502 unreachable daemon, failed: 2 connect connect-failed 2"); /* ENOENT */
    host_close(&host);
}

static void what_was_adopted_is_closed(void)
{
    struct host host;
    uint16_t port;
    AT("freed before a turn");
    host_open(&host, "unix:///nowhere", NULL);
    int fd = listen_tcp(&port);
    serve(&host, fd, DOCKLINE_SERVICE_HTTP, NULL);
    host_close(&host);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    CHECK_EQ(dial_tcp(port), -1);
}

int main(void)
{
    struct daemon daemon;
    int descriptors = open_descriptors();
    daemon_start(&daemon);
    http_in_a_loop_of_the_host(daemon.address, NULL);
    http_in_a_loop_of_the_host("unix:///nowhere/at/all", daemon.address);
    bytes_are_forwarded(daemon.address);
    pairs_are_adopted();
    stopped_from_another_thread(daemon.address, 0);
    stopped_from_another_thread(daemon.address, 1);
    an_upstream_that_cannot_be_reached();
    what_was_adopted_is_closed();
    AT("descriptors");
    daemon_join(&daemon);
    CHECK_EQ(open_descriptors(), descriptors);
    return check_summary("engine");
}
