
/* SPDX-License-Identifier: MIT */


#include "ngx_http_dockline.h"

#include <poll.h>


static int64_t ngx_http_dockline_recv(void *data, void *buf, size_t size);
static int64_t ngx_http_dockline_send(void *data, const void *buf,
    size_t size);
static ngx_uint_t ngx_http_dockline_ssl_truncated(ngx_connection_t *c);


/* only plain sockets are passed to the library; returns 1 for such */

ngx_uint_t
ngx_http_dockline_endpoint(ngx_connection_t *c, dockline_endpoint *endpoint)
{
    ngx_memzero(endpoint, sizeof(dockline_endpoint));

    endpoint->fd = c->fd;

    if (c->ssl == NULL && c->recv == ngx_recv && c->send == ngx_send) {
        return 1;
    }

    endpoint->user = c;
    endpoint->read = ngx_http_dockline_recv;
    endpoint->write = ngx_http_dockline_send;
    endpoint->shutdown_write = ngx_http_dockline_shutdown;

    if (c->ssl) {

        /* unsent data are moved and sent later from another buffer */

        SSL_set_mode(c->ssl->connection, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }

    return 0;
}


static int64_t
ngx_http_dockline_recv(void *data, void *buf, size_t size)
{
    ngx_connection_t *c = data;

    ssize_t  n;

    if (!c->read->ready) {
        return DOCKLINE_IO_AGAIN;
    }

    n = c->recv(c, buf, size);

    if (n > 0) {
        return n;
    }

    if (n == NGX_AGAIN) {
        return DOCKLINE_IO_AGAIN;
    }

    if (n == NGX_ERROR || ngx_http_dockline_ssl_truncated(c)) {
        return DOCKLINE_IO_RESET;
    }

    return 0;
}


static int64_t
ngx_http_dockline_send(void *data, const void *buf, size_t size)
{
    ngx_connection_t *c = data;

    ssize_t  n;

    if (!c->write->ready) {
        return DOCKLINE_IO_AGAIN;
    }

    n = c->send(c, (u_char *) buf, size);

    if (n == NGX_ERROR) {
        return DOCKLINE_IO_RESET;
    }

    return n > 0 ? n : DOCKLINE_IO_AGAIN;
}


int32_t
ngx_http_dockline_shutdown(void *data)
{
    ngx_connection_t *c = data;

    int  n;

    if (c->ssl == NULL) {
        return (ngx_shutdown_socket(c->fd, NGX_WRITE_SHUTDOWN) == -1)
               ? DOCKLINE_IO_RESET : 0;
    }

    /*
     * This sends close_notify.  A second call would wait for close_notify of
     * the peer and fail once it reads data instead.
     */

    ERR_clear_error();

    n = SSL_shutdown(c->ssl->connection);

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "dockline SSL_shutdown: %d", n);

    if (n >= 0) {
        return 0;
    }

    if (SSL_get_error(c->ssl->connection, n) == SSL_ERROR_WANT_WRITE) {
        c->write->ready = 0;
        return DOCKLINE_IO_AGAIN;
    }

    ERR_clear_error();

    return DOCKLINE_IO_RESET;
}


static ngx_uint_t
ngx_http_dockline_ssl_truncated(ngx_connection_t *c)
{
    /*
     * nginx makes OpenSSL treat every FIN as close_notify, and treats
     * a reset as such, too.  Old clients end their input by a FIN between
     * records; within a record, and with a reset, bytes are lost.
     */

    if (c->ssl == NULL) {
        return 0;
    }

    return SSL_has_pending(c->ssl->connection)
           || ngx_strcmp(SSL_rstate_string(c->ssl->connection), "RB") == 0
           || ngx_http_dockline_gone(c);
}


/* returns 1 if the connection was reset; nothing is read from it */

ngx_uint_t
ngx_http_dockline_gone(ngx_connection_t *c)
{
    struct pollfd  pfd;

    if (c->error) {
        return 1;
    }

    /* SO_ERROR clears errors and does not report a hangup of a Unix socket */

    pfd.fd = c->fd;
    pfd.events = 0;
    pfd.revents = 0;

    return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLERR|POLLHUP));
}
