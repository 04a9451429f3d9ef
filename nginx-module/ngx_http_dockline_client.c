
/* SPDX-License-Identifier: MIT */


/*
 * The client while its request is processed by the upstream.  nginx assumes
 * that a client that has closed its side has aborted.  For the daemon, it just
 * sends nothing more: it still receives the response, and streams such as logs
 * and events end on their own.  So the FIN is passed on as soon as the request
 * has been sent, which also is the way to abort a stream.  A client connection
 * that was reset aborts the request as usual.
 */


#include "ngx_http_dockline.h"

#include <netinet/tcp.h>


static void ngx_http_dockline_client_read(ngx_http_request_t *r);
static void ngx_http_dockline_client_write(ngx_http_request_t *r);
static ngx_uint_t ngx_http_dockline_client_aborted(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static ngx_uint_t ngx_http_dockline_client_ended(ngx_http_request_t *r);
static void ngx_http_dockline_pass_end(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static void ngx_http_dockline_keepalive(ngx_connection_t *c);
static ngx_int_t ngx_http_dockline_request_writer(void *data,
    ngx_chain_t *in);


/* replaces the handlers of the upstream module, which is about to start */

void
ngx_http_dockline_watch(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_upstream_t  *u;

    ctx->client_read_handler = r->read_event_handler;
    ctx->client_write_handler = r->write_event_handler;

    r->read_event_handler = ngx_http_dockline_client_read;
    r->write_event_handler = ngx_http_dockline_client_write;

    ctx->watched = 1;

    u = r->upstream;

    /* otherwise its handler is set again after an unbuffered body */

    u->conf->ignore_client_abort = 1;

    if (u->output.output_filter == NULL) {
        u->output.output_filter = ngx_http_dockline_request_writer;
        u->output.filter_ctx = r;
    }
}


void
ngx_http_dockline_unwatch(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    if (!ctx->watched) {
        return;
    }

    ctx->watched = 0;

    if (r->read_event_handler == ngx_http_dockline_client_read) {
        r->read_event_handler = ctx->client_read_handler;
    }

    if (r->write_event_handler == ngx_http_dockline_client_write) {
        r->write_event_handler = ctx->client_write_handler;
    }
}


/*
 * The response is complete, but some of it could not be sent yet.  From now on
 * nginx would treat a client that closes its side as aborted.  An error is
 * reported by the write event.
 */

void
ngx_http_dockline_stop_reading(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    rev = r->connection->read;

    if (!rev->active || r->reading_body || r->discard_body) {
        return;
    }

    if (ngx_del_event(rev, NGX_READ_EVENT,
                      (ngx_event_flags & NGX_USE_CLEAR_EVENT)
                      ? NGX_CLEAR_EVENT : 0)
        == NGX_OK)
    {
        /* whatever arrives now is read after the request has ended */

        rev->ready = 1;
    }
}


static void
ngx_http_dockline_client_read(ngx_http_request_t *r)
{
    ngx_connection_t         *c;
    ngx_http_dockline_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "dockline client read");

    if (ctx && ctx->watched) {

        if (ngx_http_dockline_client_aborted(r, ctx)) {
            return;
        }

        /* little input is expected before the response header */

        if (ctx->plan.kind != DOCKLINE_REQUEST_SWITCH
            || r->upstream->header_sent)
        {
            if (!ctx->client_ended && ngx_http_dockline_client_ended(r)) {
                ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0,
                               "dockline client ended");

                /* close_notify does not cause another event */

                r->keepalive = 0;

                ctx->client_ended = 1;
                ngx_http_dockline_keepalive(c);
            }

            ngx_http_dockline_pass_end(r, ctx);
        }
    }

    ngx_http_block_reading(r);
}


static void
ngx_http_dockline_client_write(ngx_http_request_t *r)
{
    ngx_event_t              *wev;
    ngx_connection_t         *c;
    ngx_http_dockline_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "dockline client write");

    if (ctx && ctx->watched && ngx_http_dockline_client_aborted(r, ctx)) {
        return;
    }

    wev = c->write;

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && wev->active) {
        if (ngx_del_event(wev, NGX_WRITE_EVENT, 0) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_ERROR);
        }
    }
}


/* returns 1 if the client was reset; the request may be freed then */

static ngx_uint_t
ngx_http_dockline_client_aborted(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (!ngx_http_dockline_gone(c)) {
        return 0;
    }

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "client aborted connection, so upstream connection "
                  "is closed too");

    c->error = 1;

    ngx_http_dockline_unwatch(r, ctx);

    ctx->client_read_handler(r);

    return 1;
}


/* returns 1 if there is nothing more to read; nothing is read here */

static ngx_uint_t
ngx_http_dockline_client_ended(ngx_http_request_t *r)
{
    int                n;
    char               buf[1];
    ngx_connection_t  *c;

    if (r->reading_body || r->header_in->pos < r->header_in->last) {
        return 0;
    }

    c = r->connection;

    if (c->ssl == NULL) {
        return recv(c->fd, buf, 1, MSG_PEEK) == 0;
    }

    /* close_notify, or a FIN without it */

    ERR_clear_error();

    n = SSL_peek(c->ssl->connection, buf, 1);

    if (n > 0) {
        return 0;
    }

    n = SSL_get_error(c->ssl->connection, n);

    ERR_clear_error();

    return n != SSL_ERROR_WANT_READ && n != SSL_ERROR_WANT_WRITE;
}


static void
ngx_http_dockline_pass_end(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx)
{
    ngx_connection_t     *pc;
    ngx_http_upstream_t  *u;

    u = r->upstream;
    pc = u->peer.connection;

    /* the request may be sent again to another server */

    if (!ctx->client_ended
        || pc == NULL
        || !u->request_body_sent
        || ctx->ended == pc->number)
    {
        return;
    }

    if (ngx_http_dockline_shutdown(pc) == DOCKLINE_IO_AGAIN) {
        return;
    }

    ctx->ended = pc->number;

    /* no other request can be sent */

    u->headers_in.connection_close = 1;
    u->keepalive = 0;
}


/*
 * A client that has closed its socket looks like one that has closed only its
 * side until something is sent to it.
 */

static void
ngx_http_dockline_keepalive(ngx_connection_t *c)
{
#if (NGX_HAVE_KEEPALIVE_TUNABLE)

    int         value;
    ngx_uint_t  i;

    static struct {
        int  level;
        int  name;
        int  value;
    } options[] = {
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, 20 },
        { IPPROTO_TCP, TCP_KEEPINTVL, 5 },
        { IPPROTO_TCP, TCP_KEEPCNT, 3 }
    };

    if (c->sockaddr->sa_family == AF_UNIX) {
        return;
    }

    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        value = options[i].value;

        if (setsockopt(c->fd, options[i].level, options[i].name, &value,
                       sizeof(int))
            == -1)
        {
            ngx_log_error(NGX_LOG_INFO, c->log, ngx_socket_errno,
                          "setsockopt() of TCP keepalive failed");
            return;
        }
    }

#endif
}


/* sends the request, and then a FIN that was received meanwhile */

static ngx_int_t
ngx_http_dockline_request_writer(void *data, ngx_chain_t *in)
{
    ngx_http_request_t *r = data;

    ngx_int_t                 rc;
    ngx_connection_t         *c;
    ngx_http_dockline_ctx_t  *ctx;

    rc = ngx_chain_writer(&r->upstream->writer, in);

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (rc != NGX_OK || r->reading_body || ctx == NULL || !ctx->watched) {
        return rc;
    }

    c = r->connection;

    r->read_event_handler = ngx_http_dockline_client_read;

    if (c->read->ready || c->ssl || ctx->client_ended) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    return rc;
}
