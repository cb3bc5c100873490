import '@fontsource-variable/ibm-plex-sans/wght.css'
import '@fontsource/ibm-plex-mono/400.css'
import '@fontsource/ibm-plex-mono/500.css'
import '@fontsource/ibm-plex-mono/600.css'
import './app/tokens.css'
import './app/base.css'
import './app/controls.css'
import { mount } from 'svelte'
import App from './app/App.svelte'
import { look } from './state/look.svelte'

document.documentElement.dataset.theme = look.theme
mount(App, { target: document.getElementById('page')! })
