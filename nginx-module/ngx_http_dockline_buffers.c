
/* SPDX-License-Identifier: MIT */


/*
 * "docker build" passes its arguments in the query and the credentials of all
 * registries in one header.  The buffers for large request headers are set per
 * server, and those of the default server of the address are used until the
 * server name is known.  They are only allocated when a request needs them.
 */


#include "ngx_http_dockline.h"


/* the default of nginx; an explicit value cannot be distinguished from it */
#define NGX_HTTP_DOCKLINE_DEFAULT_BUFFER  8192


static void ngx_http_dockline_raise_buffers(ngx_conf_t *cf,
    ngx_http_core_srv_conf_t *cscf);


ngx_int_t
ngx_http_dockline_buffers_init(ngx_conf_t *cf)
{
    ngx_uint_t                     i, j, k;
    ngx_http_conf_port_t          *port;
    ngx_http_conf_addr_t          *addr;
    ngx_http_core_srv_conf_t     **cscfp;
    ngx_http_core_main_conf_t     *cmcf;
    ngx_http_dockline_srv_conf_t  *dscf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    if (cmcf->ports == NULL) {
        return NGX_OK;
    }

    port = cmcf->ports->elts;
    for (i = 0; i < cmcf->ports->nelts; i++) {

        addr = port[i].addrs.elts;
        for (j = 0; j < port[i].addrs.nelts; j++) {

            cscfp = addr[j].servers.elts;
            for (k = 0; k < addr[j].servers.nelts; k++) {

                dscf = cscfp[k]->ctx->srv_conf
                                        [ngx_http_dockline_module.ctx_index];

                if (dscf->enable) {
                    ngx_http_dockline_raise_buffers(cf, cscfp[k]);
                    ngx_http_dockline_raise_buffers(cf,
                                                    addr[j].default_server);
                }
            }
        }
    }

    return NGX_OK;
}


static void
ngx_http_dockline_raise_buffers(ngx_conf_t *cf, ngx_http_core_srv_conf_t *cscf)
{
    ngx_bufs_t                    *bufs;
    ngx_http_dockline_srv_conf_t  *dscf;

    dscf = cscf->ctx->srv_conf[ngx_http_dockline_module.ctx_index];

    if (dscf->buffers) {
        return;
    }

    dscf->buffers = 1;

    bufs = &cscf->large_client_header_buffers;

    if (bufs->size >= NGX_HTTP_DOCKLINE_REQUEST_BUFFER && bufs->num > 1) {
        return;
    }

    if (bufs->num == 4 && bufs->size == NGX_HTTP_DOCKLINE_DEFAULT_BUFFER) {
        bufs->size = NGX_HTTP_DOCKLINE_REQUEST_BUFFER;
        return;
    }

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "\"large_client_header_buffers %i %uz\" for server \"%V\" "
                  "in %s:%ui is too small for some requests of Docker, such "
                  "as a build with many arguments; "
                  "remove it or set it to at least \"4 192k\"",
                  bufs->num, bufs->size, &cscf->server_name,
                  cscf->file_name, cscf->line);
}
