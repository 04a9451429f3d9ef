
/* SPDX-License-Identifier: MIT */


/*
 * Go clients send an empty "Host" with requests that take the connection over,
 * such as /session and /grpc of BuildKit.  This is allowed if the request has
 * no authority, but nginx rejects it before the first phase.  So the handler
 * of this header is replaced in the hash, which belongs to the configuration.
 */


#include "ngx_http_dockline.h"


static ngx_int_t ngx_http_dockline_process_host(ngx_http_request_t *r,
    ngx_table_elt_t *h, ngx_uint_t offset);
static ngx_hash_elt_t *ngx_http_dockline_hash_elt(ngx_hash_t *hash,
    u_char *name, size_t len);


ngx_int_t
ngx_http_dockline_host_init(ngx_conf_t *cf)
{
    ngx_hash_elt_t                 *elt;
    ngx_http_header_t              *hh;
    ngx_http_core_main_conf_t      *cmcf;
    ngx_http_dockline_main_conf_t  *dmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_dockline_module);

    elt = ngx_http_dockline_hash_elt(&cmcf->headers_in_hash,
                                     (u_char *) "host", sizeof("host") - 1);
    if (elt == NULL) {
        return NGX_OK;
    }

    hh = ngx_palloc(cf->pool, sizeof(ngx_http_header_t));
    if (hh == NULL) {
        return NGX_ERROR;
    }

    *hh = *(ngx_http_header_t *) elt->value;

    dmcf->process_host = hh->handler;
    hh->handler = ngx_http_dockline_process_host;

    elt->value = hh;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_process_host(ngx_http_request_t *r, ngx_table_elt_t *h,
    ngx_uint_t offset)
{
    ngx_http_dockline_srv_conf_t   *dscf;
    ngx_http_dockline_main_conf_t  *dmcf;
#if (NGX_HTTP_SSL && defined SSL_CTRL_SET_TLSEXT_HOSTNAME)
    ngx_http_connection_t          *hc;
#endif

    dmcf = ngx_http_get_module_main_conf(r, ngx_http_dockline_module);
    dscf = ngx_http_get_module_srv_conf(r, ngx_http_dockline_module);

    if (h->value.len || r->headers_in.host || !dscf->enable) {
        return dmcf->process_host(r, h, offset);
    }

    /*
     * It names no server, so the request stays with the one selected by SNI
     * or with the default one.  An empty header would not be passed to
     * the upstream.
     */

#if (NGX_HTTP_SSL && defined SSL_CTRL_SET_TLSEXT_HOSTNAME)

    hc = r->http_connection;

    if (hc->ssl_servername) {

        /* with the same name nginx keeps the server and sets its captures */

        h->value = *hc->ssl_servername;

        return dmcf->process_host(r, h, offset);
    }

#endif

    ngx_str_set(&h->value, "localhost");

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    r->headers_in.host = h;

    if (r->headers_in.server.len == 0) {
        r->headers_in.server = h->value;
    }

    return NGX_OK;
}


static ngx_hash_elt_t *
ngx_http_dockline_hash_elt(ngx_hash_t *hash, u_char *name, size_t len)
{
    ngx_hash_elt_t  *elt;

    elt = hash->buckets[ngx_hash_key(name, len) % hash->size];

    while (elt && elt->value) {

        if (elt->len == len && ngx_memcmp(elt->name, name, len) == 0) {
            return elt;
        }

        elt = (ngx_hash_elt_t *) ngx_align_ptr(&elt->name[0] + elt->len,
                                               sizeof(void *));
    }

    return NULL;
}
