"""What an int8 export costs and saves, as a page on one's own photographs.

ask        one image to one model, as the function would ask
compare    two answers: which instances match, how far they differ
weigh      bytes of a request, counted on the wire
folder     the report on a folder of images (files: what it reads and writes)
pictures   overlays and difference maps (histograms, charts: what is counted, drawn)
page       all of it as HTML (page.css, page.js)
"""
