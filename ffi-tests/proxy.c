/* SPDX-License-Identifier: MIT
 * examples/conn_proxy.c and examples/engine_server.c with clients and a daemon; this program is both.
 *
 *     proxy SERVER [ARGUMENTS THAT COME BEFORE ITS ADDRESSES...]
 */
#include "child.h"
#include "daemon.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void say(int fd, const char *text)
{
    REQUIRE(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static void expect_bytes(int fd, const char *expected)
{
    char got[4096];
    REQUIRE(strlen(expected) < sizeof got);
    ssize_t n = recv(fd, got, strlen(expected), MSG_WAITALL);
    REQUIRE(n >= 0);
    got[n] = '\0';
    CHECK_STR(got, expected);
}

static void expect_end(int fd)
{
    char byte;
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
}

static int dial_until_served(uint16_t port)
{
    for (int round = 0; round < PATIENCE_MS / 20; round++) {
        int fd = dial_tcp(port);
        if (fd >= 0)
            return fd;
        poll(NULL, 0, 20);
    }
    REQUIRE(!"the server takes connections");
    return -1;
}

static void *drain_echo(void *user)
{
    static uint8_t chunk[65536];
    uint64_t at = 0;
    ssize_t n;
    int fd = (int)(intptr_t)user;
    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0) {
        if (at + (uint64_t)n <= 3000000 && !noise_matches(5, at, chunk, (size_t)n))
            return NULL;
        at += (uint64_t)n;
    }
    return (void *)(uintptr_t)at;
}

/* More than fits anywhere, both ways at once, and the end after it. */
static void a_long_tunnel(int client)
{
    static uint8_t bytes[3000000];
    pthread_t reader;
    void *got;
    AT("a long tunnel");
    say(client, UPGRADE);
    expect_bytes(client, UPGRADED);
    REQUIRE(pthread_create(&reader, NULL, drain_echo, (void *)(intptr_t)client) == 0);
    noise_fill(5, 0, bytes, sizeof bytes);
    for (size_t at = 0; at < sizeof bytes;) {
        ssize_t n = send(client, bytes + at, sizeof bytes - at, MSG_NOSIGNAL);
        REQUIRE(n > 0);
        at += (size_t)n;
    }
    CHECK_EQ(shutdown(client, SHUT_WR), 0);
    REQUIRE(pthread_join(reader, &got) == 0);
    CHECK_EQ((uintptr_t)got, sizeof bytes + 3);
    close(client);
}

int main(int argc, char **argv)
{
    struct daemon daemon;
    char listen[64], upstream[64];
    uint16_t port;
    if (argc < 2) {
        fprintf(stderr, "usage: proxy SERVER [ARGUMENT...]\n");
        return 2;
    }
    daemon_start(&daemon);
    close(listen_tcp(&port)); /* free, at least for now */
    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    int is_engine = strstr(argv[argc - 1], "engine_server") != NULL;
    snprintf(upstream, sizeof upstream, "%s", daemon.address + (is_engine ? 0 : strlen("tcp://")));
    pid_t pid = start_server(argv + 1, argc - 1, listen, upstream);

    AT("requests, one by one and at once");
    int client = dial_until_served(port), other = dial_tcp(port);
    say(client, GET("/a"));
    expect_bytes(client, ANSWER);
    say(client, GET("/b") GET("/c"));
    say(other, GET("/d"));
    expect_bytes(client, ANSWER ANSWER);
    expect_bytes(other, ANSWER);

    AT("a bad request");
    say(other, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    expect_bytes(other, "HTTP/1.1 400 Bad Request\r\n");
    close(other);

    AT("a tunnel that begins early");
    other = dial_tcp(port);
    say(other, UPGRADE "early");
    expect_bytes(other, UPGRADED "early");
    CHECK_EQ(shutdown(other, SHUT_WR), 0);
    expect_bytes(other, "bye");
    expect_end(other);
    close(other);
    a_long_tunnel(dial_tcp(port));
    if (is_engine) {
        AT("a refused request");
        other = dial_tcp(port);
        say(other, "DELETE /containers/x HTTP/1.1\r\nHost: x\r\n\r\n");
        expect_bytes(other, "HTTP/1.1 403 Forbidden\r\n");
        close(other);
    }

    AT("SIGTERM");
    other = dial_tcp(port);
    say(other, UPGRADE "a");
    expect_bytes(other, UPGRADED "a");
    REQUIRE(kill(pid, SIGTERM) == 0);
    expect_end(client); /* idle, and not needed any more */
    close(client);
    say(other, "b"); /* the tunnel continues */
    expect_bytes(other, "b");
    CHECK_EQ(shutdown(other, SHUT_WR), 0);
    expect_bytes(other, "bye");
    expect_end(other);
    close(other);
    expect_exit(pid, 0);
    CHECK_EQ(dial_tcp(port), -1);
    daemon_join(&daemon);
    return check_summary("proxy");
}
