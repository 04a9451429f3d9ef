/* SPDX-License-Identifier: MIT
 * Sockets, and bytes that identify their position. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

/* Longer than anything here takes; a test that waits so long has failed. */
#define PATIENCE_MS 20000

static inline void set_nonblocking(int fd)
{
    REQUIRE(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
}

/* Two connected, non-blocking stream sockets. */
static inline void socket_pair(int tcp, int ends[2])
{
    if (!tcp) {
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
        return;
    }
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(listener >= 0);
    REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(ends[0] >= 0);
    REQUIRE(connect(ends[0], (struct sockaddr *)&address, sizeof address) == 0);
    ends[1] = accept(listener, NULL, NULL);
    REQUIRE(ends[1] >= 0);
    close(listener);
    set_nonblocking(ends[0]);
    set_nonblocking(ends[1]);
}

/* Closes a TCP socket so that its peer gets a reset. */
static inline void close_with_reset(int fd)
{
    struct linger linger = {1, 0};
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    close(fd);
}

static inline int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    REQUIRE(getsockopt(fd, level, name, &value, &len) == 0);
    return value;
}

/* Waits until a descriptor is ready, or fails the test. */
static inline void wait_for(int fd, short events)
{
    struct pollfd entry = {fd, events, 0};
    REQUIRE(poll(&entry, 1, PATIENCE_MS) == 1);
}

static inline int open_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    REQUIRE(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static inline void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* The byte at some place of a stream. Streams with different seeds differ nearly everywhere. */
static inline uint8_t noise_at(unsigned seed, uint64_t place)
{
    uint64_t x = place + seed * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    return (uint8_t)(x >> 29);
}

static inline void noise_fill(unsigned seed, uint64_t from, uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = noise_at(seed, from + i);
}

static inline int noise_matches(unsigned seed, uint64_t from, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != noise_at(seed, from + i)) {
            fprintf(stderr, "stream %u differs at byte %ju\n", seed, (uintmax_t)(from + i));
            return 0;
        }
    }
    return 1;
}

#endif
