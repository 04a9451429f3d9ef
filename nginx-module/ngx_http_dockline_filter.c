
/* SPDX-License-Identifier: MIT */


#include "ngx_http_dockline.h"


static ngx_int_t ngx_http_dockline_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_dockline_decide(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx, int32_t *decision);
static void ngx_http_dockline_message(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static ngx_int_t ngx_http_dockline_refuse_switch(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static ngx_int_t ngx_http_dockline_filter_init(ngx_conf_t *cf);


static ngx_http_module_t  ngx_http_dockline_filter_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_dockline_filter_init,         /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_dockline_filter_module = {
    NGX_MODULE_V1,
    &ngx_http_dockline_filter_module_ctx,  /* module context */
    NULL,                                  /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_int_t
ngx_http_dockline_header_filter(ngx_http_request_t *r)
{
    int32_t                   decision;
    ngx_int_t                 rc;
    ngx_uint_t                version;
    ngx_http_upstream_t      *u;
    ngx_http_dockline_ctx_t  *ctx;

    if (ngx_http_dockline_rewritten_handler(r) != NGX_DECLINED) {
        return NGX_ERROR;
    }

    u = r->upstream;
    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx == NULL
        || !ctx->armed
        || r != r->main
        || u->cleanup == NULL
        || u->header_sent)
    {
        return ngx_http_next_header_filter(r);
    }

    /*
     * nginx does not limit the rate of unbuffered data, but would delay
     * the header.
     */

    r->limit_rate = 0;
    r->limit_rate_set = 1;

    if (ngx_http_dockline_decide(r, ctx, &decision) != NGX_OK) {
        return NGX_ERROR;
    }

    switch (decision) {

    case DOCKLINE_DECISION_REFUSE:
        return ngx_http_dockline_refuse_switch(r, ctx);

    case DOCKLINE_DECISION_TUNNEL_UPGRADE:
    case DOCKLINE_DECISION_TUNNEL_RAW:
        break;

    default:
        ngx_http_dockline_message(r, ctx);
        return ngx_http_next_header_filter(r);
    }

    if (!ngx_http_dockline_tunnel_available()) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "dockline worker was not created");
        return NGX_ERROR;
    }

    /*
     * The upstream module proceeds as with an upgrade of its own, until it
     * flushes, which our body filter waits for.
     */

    ngx_http_dockline_unwatch(r, ctx);

    u->upgrade = 1;
    u->keepalive = 0;
    r->keepalive = 0;

    ctx->takeover = 1;

#if (NGX_HTTP_GZIP)
    r->gzip_tested = 1;
    r->gzip_ok = 0;
#endif

    if (decision == DOCKLINE_DECISION_TUNNEL_UPGRADE) {
        ctx->tunnel = NGX_HTTP_DOCKLINE_UPGRADE;
        return ngx_http_next_header_filter(r);
    }

    ctx->tunnel = NGX_HTTP_DOCKLINE_HIJACK;

    /* data that end with the connection must not be chunked, as in HTTP/1.0 */

    version = r->http_version;
    r->http_version = NGX_HTTP_VERSION_10;

    rc = ngx_http_next_header_filter(r);

    r->http_version = version;

    return rc;
}


static ngx_int_t
ngx_http_dockline_decide(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx,
    int32_t *decision)
{
    ngx_str_t                 value;
    dockline_status           status;
    ngx_http_upstream_t      *u;
    dockline_response_facts   facts;

    u = r->upstream;

    ngx_memzero(&facts, sizeof(dockline_response_facts));

    facts.status = u->headers_in.status_n;

    if (u->headers_in.content_type) {
        facts.content_type = ngx_http_dockline_str(
                                         &u->headers_in.content_type->value);
    }

    if (ngx_http_dockline_find_header(r, &u->headers_in.headers, "upgrade",
                                      &value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    facts.upgrade = ngx_http_dockline_str(&value);

    if (u->headers_in.content_length) {
        facts.flags |= DOCKLINE_RESPONSE_HAS_LENGTH;
    }

    if (u->headers_in.transfer_encoding) {
        facts.flags |= DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING;
    }

    status = dockline_hijack_decide(&ctx->facts,
                                    sizeof(dockline_request_facts), &facts,
                                    sizeof(dockline_response_facts), decision);

    if (status != DOCKLINE_OK) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "dockline decision failed: %s",
                      dockline_status_text(status));
        return NGX_ERROR;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "dockline response status:%uD decision:%D",
                   facts.status, *decision);

    return NGX_OK;
}


static void
ngx_http_dockline_message(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    /* "run" waits for the header of "wait", the body follows much later */

    u->buffering = 0;

    if (ctx->plan.kind == DOCKLINE_REQUEST_STREAM) {

        /*
         * Otherwise nginx stops sending the request body once the response
         * starts, which happens early with a build.  After an error it is
         * right to stop.
         */

        u->conf->preserve_output = (u->headers_in.status_n
                                    < NGX_HTTP_SPECIAL_RESPONSE);
    }
}


static ngx_int_t
ngx_http_dockline_refuse_switch(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "upstream sent status %ui, which was not requested",
                  u->headers_in.status_n);

    u->upgrade = 0;
    u->keepalive = 0;

    /* the proxy module took a response without a header for HTTP/0.9 */

    if (r->http_version == NGX_HTTP_VERSION_9) {
        r->http_version = (ctx->facts.version == DOCKLINE_HTTP_10)
                          ? NGX_HTTP_VERSION_10 : NGX_HTTP_VERSION_11;
    }

    ngx_http_clean_header(r);

    return NGX_HTTP_BAD_GATEWAY;
}


static ngx_int_t
ngx_http_dockline_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                 rc;
    ngx_uint_t                last;
    ngx_chain_t              *cl;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx == NULL || r != r->main) {
        return ngx_http_next_body_filter(r, in);
    }

    last = 0;

    for (cl = in; cl; cl = cl->next) {
        last |= cl->buf->last_buf;
    }

    rc = ngx_http_next_body_filter(r, in);

    if (rc == NGX_ERROR) {
        return rc;
    }

    if (last && ctx->watched && r->connection->buffered) {
        ngx_http_dockline_stop_reading(r);
    }

    if (!ctx->takeover) {
        return rc;
    }

    ctx->takeover = 0;

    if (ngx_http_dockline_tunnel_start(r, ctx) != NGX_OK) {
        ctx->tunnel = NGX_HTTP_DOCKLINE_NONE;
        return NGX_ERROR;
    }

    return rc;
}


static ngx_int_t
ngx_http_dockline_filter_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_dockline_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_dockline_body_filter;

    return NGX_OK;
}
