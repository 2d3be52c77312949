// What pymdownx.arithmatex leaves for MathJax, and nothing else of a page.
window.MathJax = {
  tex: {
    inlineMath: [['\\(', '\\)']],
    displayMath: [['\\[', '\\]']],
    processEscapes: true,
  },
  options: { ignoreHtmlClass: '.*', processHtmlClass: 'arithmatex' },
};
