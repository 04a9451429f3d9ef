/* SPDX-License-Identifier: MIT
 * A daemon on threads: responds with "OK", and upgrades to an echo that ends with "bye". */
#ifndef DAEMON_H
#define DAEMON_H

#include <pthread.h>

#include "sockets.h"

#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
#define UPGRADED "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
#define UPGRADE "POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

struct daemon {
    int listener;
    char address[128]; /* as dockline_upstream_options takes it */
    pthread_t thread, connections[64];
    int count;
};

/* Listens on loopback; returns the port. */
static inline int listen_tcp(uint16_t *port)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(fd, 64) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* A connection to it, or -1. */
static inline int dial_tcp(uint16_t port)
{
    const struct timeval patience = {PATIENCE_MS / 1000, 0};
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void *daemon_connection(void *user)
{
    int fd = (int)(intptr_t)user, echo = 0;
    char head[4096], bytes[4096];
    size_t len = 0;
    ssize_t n;
    while (!echo && len < sizeof head - 1 && (n = recv(fd, head + len, 1, 0)) == 1) {
        head[++len] = '\0';
        if (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0)
            continue;
        echo = strstr(head, "Upgrade: tcp") != NULL;
        const char *answer = echo ? UPGRADED : ANSWER;
        if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
            break;
        len = 0;
    }
    while (echo && (n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
        if (send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    }
    if (echo)
        send(fd, "bye", 3, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static inline void *daemon_accept(void *user)
{
    struct daemon *daemon = user;
    int fd;
    while (daemon->count < 64 && (fd = accept4(daemon->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (pthread_create(&daemon->connections[daemon->count], NULL, daemon_connection, (void *)(intptr_t)fd) != 0)
            abort();
        daemon->count++;
    }
    return NULL;
}

static inline void daemon_start(struct daemon *daemon)
{
    uint16_t port;
    memset(daemon, 0, sizeof *daemon);
    daemon->listener = listen_tcp(&port);
    snprintf(daemon->address, sizeof daemon->address, "tcp://127.0.0.1:%d", port);
    REQUIRE(pthread_create(&daemon->thread, NULL, daemon_accept, daemon) == 0);
}

/* When all its connections have been closed by the others. */
static inline void daemon_join(struct daemon *daemon)
{
    shutdown(daemon->listener, SHUT_RDWR);
    REQUIRE(pthread_join(daemon->thread, NULL) == 0);
    for (int i = 0; i < daemon->count; i++)
        REQUIRE(pthread_join(daemon->connections[i], NULL) == 0);
    close(daemon->listener);
}

#endif
