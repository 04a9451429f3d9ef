/* SPDX-License-Identifier: MIT
 * examples/relay_server.c under many connections at once; this program is their clients and their daemon.
 *
 *     server SERVER [ARGUMENTS THAT COME BEFORE ITS ADDRESSES...]
 */
#include <pthread.h>

#include "child.h"

enum { CONNECTIONS = 100, MOST = 400000 };

/* The first bytes of every connection: what the daemon has to expect and to do. */
struct script {
    uint32_t id;
    uint32_t daemon_first; /* the daemon ends its direction first */
    uint32_t up, down;
};

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
    char text[120];
};

static char directory[] = "/tmp/relay_server.XXXXXX";

static struct address unix_address(const char *name)
{
    struct address address;
    struct sockaddr_un *local = (struct sockaddr_un *)&address.storage;
    memset(&address, 0, sizeof address);
    local->sun_family = AF_UNIX;
    REQUIRE((size_t)snprintf(local->sun_path, sizeof local->sun_path, "%s/%s", directory, name)
            < sizeof local->sun_path);
    address.len = sizeof *local;
    snprintf(address.text, sizeof address.text, "unix:%s", local->sun_path);
    return address;
}

/* A TCP address that is free, at least for now. */
static struct address tcp_address(void)
{
    struct address address;
    struct sockaddr_in *inet = (struct sockaddr_in *)&address.storage;
    memset(&address, 0, sizeof address);
    inet->sin_family = AF_INET;
    inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.len = sizeof *inet;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address.storage, address.len) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address.storage, &address.len) == 0);
    close(fd);
    snprintf(address.text, sizeof address.text, "127.0.0.1:%d", ntohs(inet->sin_port));
    return address;
}

static int dial(const struct address *address)
{
    const struct timeval patience = {PATIENCE_MS / 1000, 0};
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0);
    if (connect(fd, (const struct sockaddr *)&address->storage, address->len) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Threads report here; the counters of check.h are the main thread's. */
static int faults;

static void fault(const struct script *script, const char *what)
{
    fprintf(stderr, "connection %u (%s first, up %u, down %u): %s: %s\n", script->id,
            script->daemon_first ? "daemon" : "client", script->up, script->down, what, strerror(errno));
    __atomic_fetch_add(&faults, 1, __ATOMIC_SEQ_CST);
}

static int send_noise(int fd, unsigned seed, size_t len)
{
    uint8_t chunk[8192];
    for (size_t at = 0; at < len;) {
        size_t n = len - at < sizeof chunk ? len - at : sizeof chunk;
        noise_fill(seed, at, chunk, n);
        ssize_t sent = send(fd, chunk, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return 0;
        at += (size_t)sent;
    }
    return 1;
}

/* Exactly these bytes, and then the clean end. */
static int expect_noise_and_end(int fd, unsigned seed, size_t len)
{
    uint8_t chunk[8192];
    size_t at = 0;
    ssize_t n;
    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0) {
        if (at + (size_t)n > len || !noise_matches(seed, at, chunk, (size_t)n))
            return 0;
        at += (size_t)n;
    }
    return n == 0 && at == len;
}

static void talk(int fd, const struct script *script, int as_daemon)
{
    unsigned up = script->id * 2, down = script->id * 2 + 1;
    unsigned mine = as_daemon ? down : up, theirs = as_daemon ? up : down;
    size_t mine_len = as_daemon ? script->down : script->up, theirs_len = as_daemon ? script->up : script->down;
    int first = (script->daemon_first != 0) == as_daemon;
    if (!first && !expect_noise_and_end(fd, theirs, theirs_len))
        fault(script, as_daemon ? "the daemon did not get it all" : "the client did not get it all");
    if (!send_noise(fd, mine, mine_len))
        fault(script, as_daemon ? "the daemon could not send" : "the client could not send");
    shutdown(fd, SHUT_WR);
    if (first && !expect_noise_and_end(fd, theirs, theirs_len))
        fault(script, as_daemon ? "the daemon did not get the answer" : "the client did not get the answer");
}

struct client {
    const struct address *server;
    struct script script;
    pthread_t thread;
};

static void *run_client(void *user)
{
    struct client *client = user;
    int fd = dial(client->server);
    if (fd < 0 || send(fd, &client->script, sizeof client->script, MSG_NOSIGNAL) != sizeof client->script)
        fault(&client->script, "the client could not connect");
    else
        talk(fd, &client->script, 0);
    close_if_open(fd);
    return NULL;
}

static void *run_daemon_connection(void *user)
{
    int fd = (int)(intptr_t)user;
    struct script script;
    const struct timeval patience = {PATIENCE_MS / 1000, 0};
    memset(&script, 0, sizeof script);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (recv(fd, &script, sizeof script, MSG_WAITALL) != sizeof script)
        fault(&script, "the daemon got no script");
    else
        talk(fd, &script, 1);
    close(fd);
    return NULL;
}

static int descriptors_of(pid_t pid)
{
    char path[64];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    REQUIRE(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Waits until the server takes a connection, and lets it see that one end. */
static void wait_for_server(const struct address *server, int listener)
{
    for (int round = 0; round < PATIENCE_MS / 20; round++) {
        int fd = dial(server);
        if (fd >= 0) {
            int daemon = accept(listener, NULL, NULL);
            REQUIRE(daemon >= 0);
            close(daemon);
            uint8_t byte;
            CHECK_EQ(recv(fd, &byte, 1, 0), 0);
            close(fd);
            return;
        }
        poll(NULL, 0, 20);
    }
    REQUIRE(!"the server takes connections");
}

static void many_at_once(char **command, int words, struct address server, struct address upstream)
{
    static struct client clients[CONNECTIONS];
    static pthread_t daemons[CONNECTIONS];
    AT("%s to %s", server.text, upstream.text);
    int listener = socket(upstream.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(listener, (struct sockaddr *)&upstream.storage, upstream.len) == 0);
    REQUIRE(listen(listener, SOMAXCONN) == 0);
    pid_t pid = start_server(command, words, server.text, upstream.text);
    wait_for_server(&server, listener);
    int before = descriptors_of(pid);

    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        struct script *script = &clients[i].script;
        script->id = i + 1;
        script->daemon_first = i % 2;
        /* Of every size: nothing, a keystroke, some segments, and what gets spliced. */
        script->up = i % 10 == 0 ? 0 : (noise_at(7, i) * 7919u + i) % (i % 5 == 0 ? MOST : 3000);
        script->down = i % 10 == 1 ? 0 : (noise_at(8, i) * 104729u + i) % (i % 7 == 0 ? MOST : 3000);
        clients[i].server = &server;
        REQUIRE(pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) == 0);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        struct pollfd entry = {listener, POLLIN, 0};
        REQUIRE(poll(&entry, 1, PATIENCE_MS) == 1);
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        REQUIRE(fd >= 0);
        REQUIRE(pthread_create(&daemons[i], NULL, run_daemon_connection, (void *)(intptr_t)fd) == 0);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        REQUIRE(pthread_join(clients[i].thread, NULL) == 0);
        REQUIRE(pthread_join(daemons[i], NULL) == 0);
    }
    CHECK_EQ(faults, 0);

    /* One tunnel is open when the server is stopped: it continues, and no new one is accepted. */
    int client = dial(&server);
    REQUIRE(client >= 0);
    int daemon = accept(listener, NULL, NULL);
    REQUIRE(daemon >= 0);
    CHECK_EQ(send(client, "a", 1, 0), 1);
    uint8_t byte = 0;
    CHECK(recv(daemon, &byte, 1, 0) == 1 && byte == 'a');
    /* Two sockets, and pipes that the worker keeps for the next transfer. */
    int held = descriptors_of(pid) - before;
    CHECK(held >= 2 && held <= 2 + 2 * 16);
    REQUIRE(kill(pid, SIGTERM) == 0);
    int refused = 0;
    for (int round = 0; round < PATIENCE_MS / 20 && !refused; round++) {
        int fd = dial(&server);
        refused = fd < 0;
        close_if_open(fd);
        poll(NULL, 0, 20);
    }
    CHECK(refused);
    CHECK_EQ(send(daemon, "b", 1, 0), 1);
    CHECK(recv(client, &byte, 1, 0) == 1 && byte == 'b');
    close(client);
    CHECK_EQ(recv(daemon, &byte, 1, 0), 0);
    close(daemon);
    expect_exit(pid, 0);
    close(listener);
}

/* An upstream that is not there ends the client's connection, not the server. */
static void no_upstream(char **command, int words, struct address server, struct address upstream)
{
    AT("%s to nobody at %s", server.text, upstream.text);
    pid_t pid = start_server(command, words, server.text, upstream.text);
    for (int round = 0, served = 0; served < 3; round++) {
        REQUIRE(round < PATIENCE_MS / 20);
        int fd = dial(&server);
        uint8_t byte;
        if (fd < 0) {
            poll(NULL, 0, 20);
            continue;
        }
        CHECK_EQ(recv(fd, &byte, 1, 0), 0);
        close(fd);
        served++;
    }
    REQUIRE(kill(pid, SIGTERM) == 0);
    expect_exit(pid, 0);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: server SERVER [ARGUMENT...]\n");
        return 2;
    }
    REQUIRE(mkdtemp(directory) != NULL);
    int descriptors = open_descriptors();
    many_at_once(argv + 1, argc - 1, tcp_address(), unix_address("daemon"));
    many_at_once(argv + 1, argc - 1, unix_address("server"), tcp_address());
    no_upstream(argv + 1, argc - 1, tcp_address(), tcp_address());
    no_upstream(argv + 1, argc - 1, unix_address("server2"), unix_address("nobody"));
    CHECK_EQ(open_descriptors(), descriptors);
    static const char *const names[] = {"daemon", "server", "server2"};
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    CHECK_EQ(rmdir(directory), 0);
    return check_summary("server");
}
