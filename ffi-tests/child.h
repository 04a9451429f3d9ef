/* SPDX-License-Identifier: MIT
 * A server under test, in a process of its own. */
#ifndef CHILD_H
#define CHILD_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sockets.h"

/* Runs a command with two more arguments: where to listen, and the upstream. */
static inline pid_t start_server(char **command, int words, const char *listen, const char *upstream)
{
    char *arguments[32];
    REQUIRE(words < 28);
    memcpy(arguments, command, (size_t)words * sizeof *arguments);
    arguments[words] = (char *)listen;
    arguments[words + 1] = (char *)upstream;
    arguments[words + 2] = NULL;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves no server behind */
        execvp(arguments[0], arguments);
        perror(arguments[0]);
        _exit(127);
    }
    return pid;
}

static inline void expect_exit(pid_t pid, int expected)
{
    int status = -1;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), expected);
}

#endif
