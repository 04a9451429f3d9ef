
/* SPDX-License-Identifier: MIT */


/*
 * Everything a client sends after a request that proposes a switch is input of
 * a tunnel.  If there is no tunnel in the end, these bytes must not be parsed
 * as a request, which would run with the identity of the client.  Whatever
 * module sends the response, and wherever the request is redirected to,
 * "r->keepalive" is never set again: so it is cleared as early as a proposal
 * can be recognized.
 */


#include "ngx_http_dockline.h"


/* enough for paths of Docker, although names may contain slashes */
#define NGX_HTTP_DOCKLINE_SEGMENTS  16


static ngx_int_t ngx_http_dockline_post_read_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_propose(ngx_http_request_t *r);
static ngx_int_t ngx_http_dockline_proposes(ngx_http_request_t *r,
    dockline_request_facts *facts);


ngx_int_t
ngx_http_dockline_proposal_init(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    /*
     * A location may send a response in the rewrite phase, or in the access
     * phase after it has rewritten the request.
     */

    static ngx_http_phases  phases[] = {
        NGX_HTTP_POST_READ_PHASE,
        NGX_HTTP_REWRITE_PHASE,
        NGX_HTTP_PREACCESS_PHASE
    };

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    for (i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {

        h = ngx_array_push(&cmcf->phases[phases[i]].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = (phases[i] == NGX_HTTP_POST_READ_PHASE)
             ? ngx_http_dockline_post_read_handler
             : ngx_http_dockline_rewritten_handler;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_post_read_handler(ngx_http_request_t *r)
{
    ngx_http_dockline_srv_conf_t  *dscf;

    dscf = ngx_http_get_module_srv_conf(r, ngx_http_dockline_module);

    if (!dscf->enable
        || !r->keepalive
        || r != r->main
        || r->http_version > NGX_HTTP_VERSION_11)
    {
        return NGX_DECLINED;
    }

    /* other requests cannot propose a switch */

    if (r->method != NGX_HTTP_POST && r->headers_in.upgrade == NULL) {
        return NGX_DECLINED;
    }

    return ngx_http_dockline_propose(r);
}


/* also called by the header filter: "return" may directly follow "rewrite" */

ngx_int_t
ngx_http_dockline_rewritten_handler(ngx_http_request_t *r)
{
    if (r->valid_unparsed_uri) {
        return NGX_DECLINED;
    }

    return ngx_http_dockline_post_read_handler(r);
}


static ngx_int_t
ngx_http_dockline_propose(ngx_http_request_t *r)
{
    size_t                  i;
    ngx_int_t               rc;
    ngx_uint_t              segments;
    dockline_request_facts  facts;

    ngx_memzero(&facts, sizeof(dockline_request_facts));

    if (ngx_http_dockline_facts(r, &facts) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_dockline_proposes(r, &facts);

    /*
     * The location is not known yet and may change, so the daemon may be
     * served below any path.
     */

    facts.target = ngx_http_dockline_str(&r->uri);
    facts.base.data = facts.target.data;

    segments = 0;

    for (i = r->uri.len; rc == NGX_DECLINED && i > 0; i--) {

        if (r->uri.data[i - 1] != '/') {
            continue;
        }

        if (segments++ == NGX_HTTP_DOCKLINE_SEGMENTS) {
            break;
        }

        facts.base.len = i - 1;

        rc = ngx_http_dockline_proposes(r, &facts);
    }

    if (rc == NGX_OK) {
        r->keepalive = 0;
        r->lingering_close = 1;

        return NGX_DECLINED;
    }

    return rc;
}


static ngx_int_t
ngx_http_dockline_proposes(ngx_http_request_t *r,
    dockline_request_facts *facts)
{
    dockline_request_plan  plan;

    if (ngx_http_dockline_make_plan(r, facts, &plan) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return plan.proposes_tunnel ? NGX_OK : NGX_DECLINED;
}
